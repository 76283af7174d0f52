"""A page about runs: their curves, scores, protocol, speed.

May import plotting, runs and below. Start reading at ``page``; ``page.html`` is what it fills in.
"""
