"""What leaves here: exported networks, and runs on a hub."""
