"""The one configuration object: its fields, their ranges, what goes together, the presets, seeds.

May import system and below, and no torch. Only training and the command line read a ``Config``.
Start reading at ``groups``, which has the fields, and ``config``.
"""
