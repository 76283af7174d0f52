"""fastdqn's parts behind TorchRL's interfaces: a sampler, a replay, actors, a loss, a stream.

May import training and below, and TorchRL; nobody imports it. Begin with ``sampler`` and
``frame_replay``.
"""
