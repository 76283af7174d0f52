"""Learning: from a batch to new parameters. Losses, the update and its fused form, optimizers.

May import acting, networks, replay and below; knows neither envs nor ``Config``.
Start reading at ``learner``, then ``update``; what is minimised says ``objectives``, and
``q_learning``, ``categorical_q_learning`` and ``quantile_q_learning`` are ours.
"""
