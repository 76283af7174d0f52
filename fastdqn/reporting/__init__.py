"""A page about runs: their curves, scores, protocol, speed."""
