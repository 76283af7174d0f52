"""A copy by way of torch's own file."""

import io

import torch


def saved_by_torch(made):
    torch.save(made, file := io.BytesIO())
    file.seek(0)
    return torch.load(file, weights_only=False)
