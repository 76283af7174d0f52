"""A training run: its parts built from a ``Config``, the loop, reports, checkpoints, resumption.

May import everything but the command line and the bench.
Start reading at ``trainer``, whose loop fits on a screen; ``build`` makes what it works with.
"""
