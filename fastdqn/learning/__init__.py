"""Learning: from a batch to new parameters. Losses, the update and its fused form, optimizers.

May import acting, networks, replay and below; knows neither envs nor ``Config``.
Start reading at ``learner``, then ``update``.
"""
