"""Runs that prove the figures of the README; each writes a JSON file under results/."""
