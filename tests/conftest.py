"""One torch thread: two of them beside a busy process slow convolutions down tens of times."""

import torch

torch.set_num_threads(1)
