"""``fastdqn bench``: what this machine does with each part of the trainer, and with the whole.

``case_list`` names the cases (without torch), ``cases`` make them, ``harness`` times them,
``table``, ``chart`` and ``compare`` show what came out. A case checks its result before it is
timed. Steps to be measured on a GPU before they may train are no cases: they lie in
``benchmarks/gpu/ladder``, outside the package.
"""
