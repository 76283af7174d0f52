"""Values that are wrong in the place of almost any argument."""

import numpy as np
import torch
from torch import nn

PLAIN = {
    "None": None,
    "text": "x",
    "object": object(),
    "list": [1, 2],
    "dict": {"a": 1},
    "True": True,
    "0": 0,
    "-1": -1,
    "-1.5": -1.5,
    "0.5": 0.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "10^30": 10**30,
    "class": nn.Linear,
    "function": lambda *_: None,
    "NumPy's number": np.float64(0.5),
    "0-d tensor": torch.tensor(0.5),
    "bytes": b"x",
    "module": nn.Linear(6, 3),
    "tuple": (),
    "set": {1},
    "array": np.zeros((3, 2)),
    "array of objects": np.array([None, "a"], object),
}


def wrong_for(value):
    """By name, what may be wrong in the place of a right value."""
    if not isinstance(value, torch.Tensor | np.ndarray):
        return PLAIN
    right = torch.as_tensor(value)
    whole = right.dtype == torch.int64
    return PLAIN | {
        "[N, 1]": right.unsqueeze(-1),
        "[1, N]": right.unsqueeze(0),
        "one number": right.flatten()[0],
        "short": right[:1],
        "empty": right[:0],
        "on meta": right.to("meta"),
        "complex64": right.to(torch.complex64),
        "int8": right.to(torch.int8),
        "bool": right.bool(),
        "float64": right.double(),
        "float16": right.half(),
        "uint8": right.to(torch.uint8),
        "NumPy's": right.numpy(),
        "with a gradient": right.float().clone().requires_grad_(),
        "all NaN": torch.full_like(right.float(), float("nan")),
        "2^62": torch.full_like(right, 2**62) if whole else right * 1e30,
        "below 0": right if right.dtype == torch.bool else right - 5,
    }
