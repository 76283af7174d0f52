"""The replay: where rows lie, which may be drawn and how likely, and what a transition is made of.

May import config, system and below; knows neither envs nor networks.
Start reading at ``buffer``, then ``writer`` (how rows come in), ``frame_ring``, ``sum_tree``. Each
chooses once who does its work: its twin in ``*_torch``, or on a CPU with Numba that in ``*_numba``,
which calls ``kernels``.
"""
