"""The directory of a run: made, locked, read, grouped with others, compared.

May import checkpoints, config and below; all but ``directory`` do without torch.
Start reading at ``directory`` for writing, at ``reader`` for reading.
"""
