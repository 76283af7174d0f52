"""All that is to be measured on one GPU, in one call; ``benchmarks/gpu.md`` says how to run it.

``driver`` runs ``stages`` as processes with limits, ``session`` is what a stage works with,
``targets`` says what was predicted and what is wanted, ``report`` compares. ``ladder`` holds steps
that only a measurement can bring into the training path.
"""
