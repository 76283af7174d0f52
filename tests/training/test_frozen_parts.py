"""A network of which parts are frozen: a run that goes on keeps them so, or is refused."""

import pytest
import torch
from helpers.short_runs import assert_same_checkpoint, scripted, tiny

import fastdqn
from fastdqn.checkpoints.names import find_checkpoint
from fastdqn.errors import ConfigError
from fastdqn.networks.make import make_network
from fastdqn.training.train import train


def frozen():
    """The network of the configuration, with a torso that is not trained."""
    torch.manual_seed(5)
    network = make_network((3,), 5, hidden_sizes=(16,))
    network.torso.requires_grad_(False)
    return network


def test_a_run_with_frozen_parts_goes_on_with_them_only(tmp_path):
    whole = train(tiny(tmp_path / "whole"), envs=scripted(), network=frozen())
    half = tmp_path / "half"
    train(tiny(half), envs=scripted(), network=frozen(), on_log=lambda row: True)
    again = tiny(half, resume="require")
    with pytest.raises(ConfigError, match=r"parts were frozen.*pass it again: .*network=network\)"):
        train(again, envs=scripted())  # the same layers, all of which would be trained
    train(again, envs=scripted(), network=frozen())
    assert_same_checkpoint(*(find_checkpoint(path) for path in (half, whole.run_dir)))
    policy = fastdqn.load(half)  # which needs no network to be passed
    assert torch.equal(policy.network.torso.layers[0].weight, frozen().torso.layers[0].weight)
