"""The rungs of the ladder against the plain learner and plain torch."""

import copy
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from helpers.capture_parts import capture_on_tape, with_rate_on_device
from helpers.tape import TapedStep

from benchmarks.gpu.ladder import nature
from benchmarks.gpu.ladder.block_sums import BlockSums
from benchmarks.gpu.ladder.fused_gather import KernelReplay
from benchmarks.gpu.ladder.rung_learner import rung_learner, rung_replay
from benchmarks.gpu.ladder.rungs import RUNGS
from benchmarks.gpu.ladder.space_to_depth import depth_to_space, space_to_depth
from benchmarks.gpu.session import Session
from benchmarks.gpu.stages import ladder
from benchmarks.gpu.targets import RUNG_US, TRAINS
from fastdqn.bench.random_replay import fill_random
from fastdqn.errors import ConfigError
from fastdqn.learning.learner import Learner
from fastdqn.networks.make import make_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.sum_tree import SumTree
from fastdqn.system.compilation import unchanged

OPTIONS = {"learning_rate": 1e-3, "optimizer_epsilon": 1e-2, "target_period_updates": 3}


def nature_network(seed=0, **kwargs):
    torch.manual_seed(seed)
    return make_network((84, 84), 6, kind="nature", frame_stack=4, hidden_sizes=(32,), **kwargs)


def frames(batch=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 4, 84, 84), generator=g, dtype=torch.uint8)


def replay_of(prioritized=True, seed=0, **kwargs):
    replay = ReplayBuffer(
        800, 4, Box(0, 255, (84, 84), np.uint8), frame_stack=4, n_step=3,
        prioritized=prioritized, seed=seed, **kwargs,
    )  # fmt: skip
    fill_random(replay, num_actions=6)
    return replay


# --- space to depth ----------------------------------------------------------------------------


def test_blocks_become_channels_and_back():
    x = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).view(2, 3, 8, 12)
    deep = space_to_depth(x, 4, torch.float64)
    assert deep.shape == (2, 48, 2, 3) and deep.dtype == torch.float64
    assert deep.is_contiguous(memory_format=torch.channels_last)
    for row, column, channel in ((0, 0, 0), (3, 1, 2), (2, 3, 1)):
        picked = deep[:, (row * 4 + column) * 3 + channel]
        assert torch.equal(picked, x[:, channel, row::4, column::4].double())
    assert torch.equal(depth_to_space(deep, 4), x.double())


@pytest.mark.parametrize(("size", "channels", "kernel", "block"), [(84, 4, 8, 4), (20, 32, 4, 2)])
def test_a_strided_convolution_is_one_without_stride_on_blocks(size, channels, kernel, block):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, size, size, generator=g, dtype=torch.float64)
    w = torch.randn(5, channels, kernel, kernel, generator=g, dtype=torch.float64)
    deep = F.conv2d(space_to_depth(x, block), space_to_depth(w, block))
    torch.testing.assert_close(deep, F.conv2d(x, w, stride=block))


def test_forward_and_backward_by_hand_are_autograd_s():
    network = nature_network().double()
    torso = network.torso
    x = nature.to_input(frames(), torch.float64)
    kept = nature.forward(torso, x)
    plain = frames().double() / 255
    for layer in (torso.conv1, torso.conv2, torso.conv3):
        plain = F.relu(layer(plain))
    plain = F.relu(F.linear(plain.flatten(1), torso.hidden.weight, torso.hidden.bias))
    torch.testing.assert_close(kept[-1], plain)
    upstream = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1)).double()
    wanted = torch.autograd.grad(plain, list(torso.parameters()), upstream)
    with torch.no_grad():
        got = nature.backward(torso, kept, upstream)
    assert len(got) == len(wanted)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_other_networks_and_frames_are_refused():
    mlp = make_network((4,), 2, kind="mlp")
    with pytest.raises(ConfigError, match="network = 'nature'"):
        rung_learner(mlp, RUNGS["4_s2d"])
    with pytest.raises(ConfigError, match="84 x 84, not \\(88, 88\\)"):
        nature.to_input(torch.zeros((1, 4, 88, 88), dtype=torch.uint8), torch.float32)


def test_what_the_kernels_are_not_for_is_refused():
    with pytest.raises(ConfigError, match="prioritized replay with zero padding"):
        KernelReplay(replay_of(prioritized=False), dtype=torch.float32)
    three = SumTree(5000, fanout=16)
    with pytest.raises(ValueError, match="has 4 levels"):
        BlockSums(three, kernels=True)


# --- the rungs ---------------------------------------------------------------------------------


def test_every_rung_names_the_one_before_it_and_has_a_prediction():
    names = list(RUNGS)
    assert names[0] == "0_eager" and RUNGS["0_eager"].before == ""
    for name in names[1:]:
        assert RUNGS[name].before in names[: names.index(name)]
    assert set(RUNG_US) == set(RUNGS)
    for ranges in RUNG_US.values():
        assert ranges[32] and all(0 < low < high for low, high in ranges.values())
    assert RUNGS[TRAINS].parts == () and RUNGS[TRAINS].mode == "graph"
    assert RUNGS[TRAINS].replay_mode == "auto"
    for order in ladder.ORDER.values():
        assert order[0] == TRAINS and set(order) <= set(RUNGS)
    assert set(ladder.ORDER[32]) == set(RUNGS)


def test_a_rung_overrides_nothing_of_the_learner():
    for rung in RUNGS.values():
        assert type(rung_learner(nature_network(), rung, mode="eager")) is Learner


def test_a_rung_clips_as_the_learner_does():
    replay, twin = replay_of(), replay_of()
    options = {**OPTIONS, "precision": "fp32", "max_grad_norm": 1e-3}
    plain = Learner(nature_network(), mode="eager", **options)
    learner = rung_learner(nature_network(), RUNGS["3_flatadam"], **options)
    start = plain.flat.data.clone()
    learner.update_from(replay, 1, batch_size=8)
    plain.update_from(twin, 1, batch_size=8)
    torch.testing.assert_close(learner.flat.data, plain.flat.data, rtol=1e-4, atol=1e-7)
    loose = Learner(nature_network(), mode="eager", **{**options, "max_grad_norm": None})
    loose.update_from(replay_of(), 1, batch_size=8)
    assert (loose.flat.data - start).norm() > 2 * (plain.flat.data - start).norm()


@pytest.mark.usefixtures("in_torch")
def test_a_batch_of_inputs_is_that_of_stacks():
    replay = replay_of()
    inputs = KernelReplay(replay, dtype=torch.float32)
    with unchanged([], [replay.generator]):
        stacks = replay.sample(8, beta=0.5)
    batch = inputs.sample(8, beta=0.5)
    assert torch.equal(batch.observation[:8], nature.to_input(stacks.observation, torch.float32))
    following = nature.to_input(stacks.next_observation, torch.float32)
    assert torch.equal(batch.next_observation, following)
    assert torch.equal(batch.observation[8:], following)
    for name in ("action", "reward", "discount", "weight", "index"):
        assert torch.equal(getattr(batch, name), getattr(stacks, name))
    with unchanged([], [replay.generator]):
        again = KernelReplay(replay, dtype=None).sample(8, beta=0.5)
    wanted = replay.sample(8, beta=0.5)
    assert all(torch.equal(a, b) for a, b in zip(again, wanted, strict=True))


# --- whole updates -----------------------------------------------------------------------------

BEYOND_THE_LEARNER = [name for name, rung in RUNGS.items() if rung.parts]


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize(
    ("rung", "prioritized"),
    [(rung, kind) for rung in BEYOND_THE_LEARNER for kind in (True, False)
     if kind or "replay" not in RUNGS[rung].parts],
)  # fmt: skip
def test_a_rung_s_updates_are_the_learner_s(rung, prioritized):
    replay, twin = replay_of(prioritized), replay_of(prioritized)
    network = nature_network(dueling=True)
    options = {"precision": "fp32", "updates_per_launch": 2, **OPTIONS}
    plain = Learner(copy.deepcopy(network), mode="eager", **options)
    learner = rung_learner(network, RUNGS[rung], **options)
    replay = rung_replay(replay, RUNGS[rung], learner)
    before = plain.flat.data.clone()
    for _ in range(2):  # the target moves after three
        got = learner.update_from(replay, 2, batch_size=8, beta=0.5)
        wanted = plain.update_from(twin, 2, batch_size=8, beta=0.5)
    torch.testing.assert_close(got.td_error, wanted.td_error, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(replay.tree.leaves, twin.tree.leaves, rtol=1e-3, atol=1e-4)
    moved, expected = learner.flat.data - before, plain.flat.data - before
    assert (moved - expected).norm() < 1e-2 * expected.norm()
    assert learner.read_statistics()["finite"] == 4


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize("rung", BEYOND_THE_LEARNER)
def test_a_rung_compiles_whole(rung):
    replay, twin = replay_of(), replay_of()
    network = nature_network()
    plain = Learner(copy.deepcopy(network), mode="eager", precision="fp32", **OPTIONS)
    learner = rung_learner(
        network, RUNGS[rung], mode="compile", compile_backend="aot_eager", precision="fp32",
        **OPTIONS,
    )  # fmt: skip
    replay = rung_replay(replay, RUNGS[rung], learner)
    got = learner.update_from(replay, 1, batch_size=4, beta=0.5)
    wanted = plain.update_from(twin, 1, batch_size=4, beta=0.5)
    torch.testing.assert_close(got.td_error, wanted.td_error, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learner.flat.data, plain.flat.data, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize("rung", BEYOND_THE_LEARNER)
def test_a_rung_in_bfloat16_is_the_learner_s_in_bfloat16(rung):
    """As a GPU runs it: torso on the copies, head and loss in float32."""
    replay, twin = replay_of(), replay_of()
    network = nature_network()
    plain = Learner(copy.deepcopy(network), mode="eager", precision="bf16", **OPTIONS)
    learner = rung_learner(network, RUNGS[rung], precision="bf16", **OPTIONS)
    replay = rung_replay(replay, RUNGS[rung], learner)
    before = plain.flat.data.clone()
    got = learner.update_from(replay, 4, batch_size=8, beta=0.5)
    wanted = plain.update_from(twin, 4, batch_size=8, beta=0.5)
    torch.testing.assert_close(got.td_error, wanted.td_error, rtol=0.1, atol=0.05)
    moved, expected = learner.flat.data - before, plain.flat.data - before
    assert (moved - expected).norm() < 0.1 * expected.norm()
    assert torch.equal(learner._twin.data, learner.flat.data.bfloat16())


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize("rung", BEYOND_THE_LEARNER)
def test_a_captured_rung_gives_the_numbers_of_eager(rung, monkeypatch):
    """On a tape, which keeps what the host decided when it was recorded."""

    def climbed(mode):
        learner = rung_learner(
            nature_network(), RUNGS[rung], mode=mode, precision="bf16", updates_per_launch=2,
            **OPTIONS,
        )  # fmt: skip
        with_rate_on_device(learner)
        replay = replay_of(mode=mode)
        drawn_from = rung_replay(replay, RUNGS[rung], learner)
        for turn in range(2):
            learner.set_learning_rate(1e-3 / (turn + 1))
            learner.update_from(drawn_from, 5, batch_size=8, beta=0.5 + turn / 4)
        return [
            learner.flat.data, learner._twin.data, learner.target.flat.data, learner.statistics,
            *replay.tree.tensors(), replay.generator.get_state(),
        ]  # fmt: skip

    eager = climbed("eager")
    capture_on_tape(monkeypatch)
    made = TapedStep.made
    captured = climbed("graph")
    assert TapedStep.made - made == 2  # of two updates, and of one
    assert all(torch.equal(one, other) for one, other in zip(captured, eager, strict=True))


# --- the stage that times them -----------------------------------------------------------------


def test_a_rung_that_is_wrong_is_told(monkeypatch, tmp_path):
    file = tmp_path / "ladder32.json"
    session = Session(file, time.monotonic() + 1000, smoke=True, retry=True, device="cpu")
    right = nature.backward
    monkeypatch.setattr(
        "benchmarks.gpu.ladder.gradients.backward", lambda *args: [2 * g for g in right(*args)]
    )
    monkeypatch.setitem(ladder.ORDER, 32, ("6_2B", "4_s2d"))
    ladder.measure(session, batch_size=32)
    (wrong,) = session.file.record["errors"]
    assert wrong == "6_2B/check" and not session.file.clean
    for rung, found in session.entries.items():  # the times are kept all the same
        assert {"K1", "K4", "K16"} <= set(found)
        # Autograd goes back through 4_s2d.
        assert (found["parameters_off"] < 0.1) == (rung == "4_s2d")
    assert list(session.entries) == ["6_2B", "4_s2d"]
