"""Running statistics against those of all data at once; who shares them."""

import copy

import numpy as np
import pytest
import torch
from helpers.scripted_env import Script, ScriptedVectorEnv

from fastdqn.envs import make_envs
from fastdqn.frame_format import FrameFormat
from fastdqn.learning.learner import Learner
from fastdqn.networks.normalizer import Normalizer
from fastdqn.networks.spec import NetworkSpec
from fastdqn.training.normalized_frames import NormalizedFrames


def network_of(size, **more):
    return NetworkSpec(
        frame_shape=(size,), num_actions=5, frame_stack=None, torso="mlp", hidden_sizes=(8,),
        dueling=False, batch_norm=False, impala_width=1, frame_dtype="float32",
        frame_format=FrameFormat(False), normalize=True, **more,
    ).build()  # fmt: skip


def data(rows=400, seed=0):
    """Columns of several scales, one of them constant, one far from 0."""
    rng = np.random.default_rng(seed)
    columns = [rng.normal(0, 1, rows), rng.normal(1e4, 0.5, rows), rng.exponential(1e-2, rows),
               np.full(rows, 7.0)]  # fmt: skip
    return np.stack(columns, 1).astype(np.float32)


def expected(x, seen):
    """What it makes of x, having seen all of that; float64."""
    seen = seen.astype(np.float64)
    deviation = seen.std(0)
    scale = np.where(deviation > 1e-4, 1 / np.maximum(deviation, 1e-4), 1.0)
    return np.clip((x - seen.mean(0).astype(np.float32)) * scale, -10, 10)


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_statistics_are_those_of_all_data(batch):
    x = data()
    normalizer = Normalizer(4)
    for start in range(0, len(x), batch):
        normalizer.add(torch.from_numpy(x[start : start + batch]))
    assert normalizer.count == len(x)
    np.testing.assert_allclose(normalizer.mean.numpy(), x.astype(np.float64).mean(0), rtol=1e-12)
    variance = (normalizer.squares / normalizer.count).numpy()
    np.testing.assert_allclose(variance, x.astype(np.float64).var(0), rtol=1e-8, atol=1e-12)
    seen = normalizer(torch.from_numpy(x))
    assert seen.dtype == torch.float32
    np.testing.assert_allclose(seen.numpy(), expected(x, x), rtol=1e-4, atol=1e-5)


def test_only_what_counts_is_taken_in():
    x, rng = data(), np.random.default_rng(1)
    counts = rng.random(len(x)) < 0.2
    counts[:14] = False  # a batch of nothing, before anything was seen, too
    x[~counts] = np.nan
    normalizer = Normalizer(4)
    for start in range(0, len(x), 7):
        rows = slice(start, start + 7)
        normalizer.add(torch.from_numpy(x[rows]), torch.from_numpy(counts[rows]))
    taken = x[counts]
    assert normalizer.count == counts.sum()
    np.testing.assert_allclose(normalizer.mean.numpy(), taken.astype(np.float64).mean(0))
    np.testing.assert_allclose(
        normalizer(torch.from_numpy(taken)).numpy(), expected(taken, taken), rtol=1e-4, atol=1e-5
    )


def test_nothing_is_changed_before_there_is_data_and_one_row_is_no_deviation():
    x = torch.tensor([[3.0, -200.0, 0.0]])
    normalizer = Normalizer(3)
    assert torch.equal(normalizer(x), torch.tensor([[3.0, -10.0, 0.0]])), "clipped"
    normalizer.add(x)
    assert torch.equal(normalizer(x + 1), torch.ones(1, 3))


def test_more_rows_than_float32_can_count():
    normalizer = Normalizer(1)
    normalizer.add(torch.zeros(2, 1))
    normalizer.count.fill_(2.0**24)
    normalizer.add(torch.ones(1, 1))
    assert normalizer.count == 2**24 + 1 and normalizer.mean == 1 / (2**24 + 1)


# --- in a network --------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_networks_of_a_learner_see_the_same(tau, precision):
    network = network_of(4)
    learner = Learner(network, target_tau=tau, target_period_updates=1, precision=precision)
    x = torch.from_numpy(data())
    learner.network.encoder.normalizer.add(x)
    one = learner.network.encoder(x)
    assert one.std(0)[0] == pytest.approx(1, abs=0.01)
    modules = [learner.acting_network, learner.target.network, learner.target.computing]
    for module in modules:
        shared = module.encoder.normalizer.mean
        assert shared.data_ptr() == network.encoder.normalizer.mean.data_ptr()
        assert torch.equal(module.encoder(x), one)


def test_it_is_saved_with_the_learner_and_goes_on():
    x = torch.from_numpy(data())
    first, second = Learner(network_of(4)), Learner(network_of(4))
    first.network.encoder.normalizer.add(x[:100])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for learner in (first, second):
        learner.network.encoder.normalizer.add(x[100:])
    states = [learner.network.encoder.normalizer.state_dict() for learner in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(second.target.network.encoder(x), first.network.encoder(x))


# --- in a run ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_every_frame_counts_once(mode, backend):
    script = Script(3, seed=2)
    stream = make_envs(ScriptedVectorEnv(script, mode, backend=backend))
    network = network_of(3)
    frames = NormalizedFrames.of(network)
    rows, step = [], stream.reset(seed=0)
    for _ in range(40):
        frames.add(step)
        seen = np.asarray(step.observation)
        rows += list(seen.copy())
        if step.reset is not None:
            again = np.asarray(step.reset_observation)
            for i in np.flatnonzero(np.asarray(step.reset)):
                rows.append(again[i].copy())
            seen = np.where(np.asarray(step.reset)[:, None], again, seen)
        actions = script.act(seen)
        stream.send(torch.as_tensor(actions) if backend == "torch" else actions)
        step = stream.recv()
    normalizer, all_rows = network.encoder.normalizer, np.stack(rows).astype(np.float64)
    assert len({tuple(row) for row in all_rows}) == len(all_rows) == normalizer.count
    np.testing.assert_allclose(normalizer.mean.numpy(), all_rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose((normalizer.squares / normalizer.count).numpy(), all_rows.var(0))
