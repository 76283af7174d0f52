"""Runs on Atari held against published curves and scores, on what a computer does in hours."""
