"""Small modules of pure mathematics that methods are made of; they know nothing of a backbone."""
