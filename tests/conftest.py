"""One torch thread: with two, any neighbour on a core makes every parallel region wait for it."""

import torch

torch.set_num_threads(1)
