"""What runs will take, before anything is spent: updates, learning rates, memory, disk, hours."""
