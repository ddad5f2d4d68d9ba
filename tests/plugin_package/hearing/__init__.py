"""What a plug-in of vlpet-bench may look like."""
