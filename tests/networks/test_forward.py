"""How networks are called: raw outputs and Q in float32, and random numbers for those that ask."""

import pytest
import torch
from torch import nn

from fastdqn.networks.forward import evaluation_mode, forward_output, forward_q, to_q
from fastdqn.networks.make import make_network


class Plain(nn.Module):
    def forward(self, observation):
        return observation.sum(1, keepdim=True).repeat(1, 2).double()


class Quantiles(nn.Module):
    """[B, A, N]: one quantile, shifted by its random numbers."""

    def random_shapes(self, batch):
        return {"taus": (batch, 4)}

    def forward(self, observation, randoms=None):
        middle = observation.sum(1).view(-1, 1, 1).expand(-1, 2, 4)
        return middle if randoms is None else middle + randoms["taus"].unsqueeze(1)

    def q_values(self, output):
        return output.mean(2)


def test_random_numbers_go_to_those_that_ask_for_them():
    x, taus = torch.rand(3, 5), torch.rand(3, 4)
    network = Quantiles()
    expected = x.sum(1).view(3, 1, 1).expand(3, 2, 4)
    assert torch.equal(forward_output(network, x, False), expected)
    found = forward_output(network, x, False, {"taus": taus})
    assert torch.equal(found, expected + taus.unsqueeze(1))
    assert torch.equal(to_q(network, found), found.mean(2))
    assert torch.equal(forward_q(network, x, False), expected.mean(2)), "without draws: none"
    for draws in (None, {}, {"taus": taus}):
        assert torch.equal(forward_output(Plain(), x, False, draws), Plain()(x).float())


@pytest.mark.parametrize("autocast", [False, True])
def test_outputs_are_float32_and_q_is_made_of_them(autocast):
    network, x = make_network((5,), 2, hidden_sizes=(8,)), torch.rand(3, 5)
    with torch.no_grad():
        output = forward_output(network, x, autocast)
        assert torch.equal(forward_q(network, x, autocast), output)
        assert torch.equal(output, network(x)) is not autocast
    assert output.dtype == forward_output(Plain(), x, autocast).dtype == torch.float32


def test_evaluation_mode_gives_every_module_its_own_back():
    network = make_network((5,), 2, hidden_sizes=(8,), batch_norm=True).train()
    network.torso.norms[0].eval()
    before = [module.training for module in network.modules()]
    with pytest.raises(KeyError), evaluation_mode(network):
        assert not any(module.training for module in network.modules())
        raise KeyError
    assert [module.training for module in network.modules()] == before
    assert len(set(before)) == 2
