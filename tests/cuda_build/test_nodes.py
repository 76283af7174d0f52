"""What counts as one node, operator by operator."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed.launches.nodes import nodes_of

pytestmark = [
    pytest.mark.cuda_build,
    pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch"),
]


class Nodes(TorchDispatchMode):
    """Counts as on a GPU; what is counted does not depend on where the tensors lie."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.found.update(node.kind for node in nodes_of(function, args, kwargs or {}, result))
        return result


MANY, INDEX = torch.zeros(2**17), torch.arange(36)
SQUARE, VECTOR = torch.ones(36, 36), torch.ones(36)
FILTER, BIAS = torch.ones(1, 1, 3, 3, requires_grad=True), torch.zeros(1, requires_grad=True)
GRADIENT = torch.ones(1, 1, 2, 2)


def backward_of_convolutions(x):
    first = F.conv2d(x.view(1, 1, 6, 6), FILTER, BIAS)  # the frames want no gradient
    return torch.autograd.grad(F.conv2d(first, FILTER), [FILTER, BIAS], GRADIENT)


@pytest.mark.parametrize(
    "operation, expected",
    [
        (lambda x: x.view(6, 6)[2:].t().unsqueeze(0), {}),
        (lambda x: torch.empty(3), {}),
        (lambda x: torch.zeros(3), {"aten": 1}),
        (lambda x: x + 1, {"aten": 1}),
        (lambda x: x.cumsum(0), {"aten": 2}),
        (lambda x: x.view(6, 6).cumsum(1), {"aten": 1}),
        (lambda x: x.int().view(6, 6).cumsum(1), {"aten": 3}),  # to int, to long, the scan
        (lambda x: x.sum(), {"aten": 1}),
        (lambda x: MANY.sum(), {"aten": 2}),  # the counters that its blocks share
        (lambda x: MANY.view(2, -1).sum(1), {"aten": 1}),
        (lambda x: torch.cat([x] * 3), {"aten": 1}),
        (lambda x: torch.cat([x] * 300), {"aten": 3}),
        (
            lambda x: x.scatter_reduce_(0, INDEX, VECTOR, "amax", include_self=False),
            {"aten": 2},  # what is written to is filled first
        ),
        (lambda x: x @ SQUARE, {"library": 1}),
        (lambda x: F.linear(x.view(1, 36), SQUARE, VECTOR), {"library": 1}),
        (lambda x: F.conv2d(x.view(1, 1, 6, 6), FILTER), {"library": 1}),
        (lambda x: F.conv2d(x.view(1, 1, 6, 6), FILTER, BIAS), {"library": 1, "aten": 1}),
        # Two forward; backward the weight's gradient twice and one of an input. The bias, its
        # gradient, and the sum of the weight's two.
        (backward_of_convolutions, {"library": 5, "aten": 3}),
    ],
)
def test_nodes(operation, expected):
    x = torch.zeros(36)
    with Nodes() as nodes:
        operation(x)
    assert nodes.found == expected
