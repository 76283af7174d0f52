"""Q networks: torsos that make features, heads that make Q values of them.

May import config, system and below.
Start reading at ``q_network``, then ``torso``, which says what parts a torso has; ``spec`` is the
description that a checkpoint keeps, ``torsos`` lists what it can name, ``values`` says what the
numbers of a head stand for, ``draws`` which random numbers a network takes, and ``forward`` is how
others call one. What oneDNN does on a CPU stands apart, in ``onednn``.
"""
