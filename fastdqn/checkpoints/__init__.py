"""Checkpoints: directories of tensor files and JSON, whole or not there, and plain data.

May import config, system and below.
Start reading at ``store``; ``state_tree`` is a state on the disk, ``names`` finds checkpoints.
"""
