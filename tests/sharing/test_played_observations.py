"""Observations to compare on: as many as asked for, as the network sees them, repeatable."""

import gymnasium
import numpy as np
import pytest
import torch

import fastdqn
from fastdqn.sharing.observations import played_observations


class Parts(gymnasium.Env):
    """A picture and two numbers, at random; episodes of seven steps."""

    observation_space = gymnasium.spaces.Dict(
        {
            "picture": gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8),
            "numbers": gymnasium.spaces.Box(-1, 1, (2,), np.float32),
        }
    )
    action_space = gymnasium.spaces.Discrete(3)

    def _observation(self):
        picture = self.np_random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        return {"picture": picture, "numbers": self.np_random.random(2, dtype=np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 7
        return self._observation(), {}

    def step(self, action):
        self.left -= 1
        return self._observation(), 0.0, self.left == 0, False, {}


def played(count, seed, frame_stack):
    gymnasium.register("Parts-v0", Parts)
    try:
        envs = fastdqn.make_envs("Parts-v0", 2, frame_stack=frame_stack)
    finally:
        del gymnasium.registry["Parts-v0"]
    try:
        from fastdqn.spaces import Spaces
        from fastdqn.training.network_spec import network_spec

        torch.manual_seed(0)
        config = fastdqn.Config(frame_stack=frame_stack, hidden_sizes=(8,))
        network = network_spec(config, Spaces.of(envs)).build().eval().requires_grad_(False)
        policy = fastdqn.Policy(network, envs=envs)
        return policy, played_observations(policy, envs, count, seed=seed)
    finally:
        envs.close()


@pytest.mark.parametrize("count", [1, 2, 25])
def test_as_many_as_asked_for_and_repeatable(count):
    _, one = played(count, 0, 2)
    _, again = played(count, 0, 2)
    _, other = played(count, 1, 2)
    assert one.shape == (count, 2, 3 * 16 * 16 + 4 * 2) and one.dtype == torch.uint8
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_parts_of_a_dictionary_are_what_the_env_returned():
    from fastdqn.sharing.exported_network import exported_network

    policy, observations = played(10, 3, None)
    network = exported_network(policy.network, policy.spaces)
    assert [each.name for each in network.inputs] == ["image", "vector"]
    image, vector = network.split(observations)
    env = Parts()
    first, _ = env.reset(seed=3)
    assert np.array_equal(image[0].numpy(), first["picture"].transpose(2, 0, 1))
    assert np.array_equal(vector[0].numpy(), first["numbers"])
    with torch.no_grad():
        assert torch.equal(network(image, vector), policy.network(observations))
