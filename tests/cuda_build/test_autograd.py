"""The gradients that stand for those of torch's engine on fakes are the same ones."""

import pytest
import torch

from benchmarks.speed.launches.autograd import grad
from fastdqn.networks.make import make_network

pytestmark = [
    pytest.mark.cuda_build,
    pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch"),
]


@pytest.mark.parametrize("kind", ["nature", "impala", "small_resnet", "mlp"])
def test_gradients_are_those_of_the_engine(kind):
    torch.manual_seed(0)
    network = make_network(
        (36, 36), 3, kind=kind, frame_stack=4, image=True, hidden_sizes=(16,), dueling=True
    ).double()
    parameters = list(network.parameters())

    def loss():
        x = torch.rand(2, 4, 36, 36, generator=torch.Generator().manual_seed(1)).double()
        left, right = network(x).split(1)  # two gradients meet in one function
        return (left * right + right).mean()

    for own, engine in zip(
        grad(loss(), parameters), torch.autograd.grad(loss(), parameters), strict=True
    ):
        torch.testing.assert_close(own, engine, rtol=1e-9, atol=1e-12)
