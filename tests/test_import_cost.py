"""Public names load neither Dynamo nor TensorDict, and Numba only where its loops are to run."""

import subprocess
import sys

import pytest

HEAVY = ("torch._dynamo", "torch._inductor", "sympy", "tensordict", "torchrl", "matplotlib",
         "numba")  # fmt: skip

# At the top level of a fresh process: what each step adds to sys.modules.
STEPS = """
import sys

import torch

def loaded(before=frozenset(sys.modules)):
    return [name for name in {heavy} if name in sys.modules and name not in before]

import fastdqn
import fastdqn.learning
import fastdqn.networks

for module in (fastdqn, fastdqn.learning, fastdqn.networks):
    for name in module.__all__:
        getattr(module, name)
print("names", *loaded())

import gymnasium
import numpy as np

replay = fastdqn.ReplayBuffer(1024, 2, gymnasium.spaces.Box(-1, 1, (4,), np.float32))
flags, zeros = np.zeros(2, bool), np.zeros(2, np.float32)
for row in range(8):
    first = flags | (row == 0)
    step = fastdqn.TimeStep(np.zeros((2, 4), np.float32), zeros, flags, flags, first)
    replay.add(step, np.zeros(2, np.int64))
learner = fastdqn.Learner(fastdqn.make_network((4,), 3), mode="eager")
learner.update_from(replay, batch_size=4)
fastdqn.Actor(learner.acting_network, 2).act_from(replay)
learner.policy().act(np.zeros((2, 4), np.float32))
print("use", *loaded())

assert replay.ring.storage is replay.ring.storage
print("storage", *loaded())
"""


@pytest.fixture(scope="module")
def modules():
    """Heavy modules that each step of a fresh process has loaded."""
    code = STEPS.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {step: set(names) for step, *names in lines}


def test_public_names_load_nothing_heavy(modules):
    assert modules["names"] == set()


def test_replay_learner_and_actor_work_without_dynamo_and_tensordict(modules):
    assert modules["use"] <= {"numba"}


def test_the_storage_is_a_tensordict_when_it_is_asked_for(modules):
    assert "tensordict" in modules["storage"]
