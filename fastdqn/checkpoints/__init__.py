"""Checkpoints: directories of tensor files and JSON, written whole or not at all, never unpickled.

May import config, system and below.
Start reading at ``store``; ``state_tree`` is a state on the disk, ``names`` finds checkpoints.
"""
