"""What leaves here: exported networks, and runs on a hub.

May import plotting, runs and below.
Start reading at ``export`` for a network's file, at ``parcel`` for what a hub gets of a run, at
``hub_run`` for how a run comes back.
"""
