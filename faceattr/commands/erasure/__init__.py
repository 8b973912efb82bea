"""What people may ask to be deleted, and what else it has reached."""
