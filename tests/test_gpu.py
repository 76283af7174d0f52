"""What needs a CUDA device: capture, overlap, staging; the CPU tests cover the same functions."""

import copy
import weakref

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers.dropout_runs import run as run_with_dropout
from helpers.kernel_twins import CHECKS
from helpers.scripted_env import Script, ScriptedVectorEnv
from helpers.short_runs import assert_same_checkpoint

from benchmarks.gpu.ladder.fused_gather import KernelReplay
from benchmarks.gpu.ladder.rung_learner import rung_learner, rung_replay
from benchmarks.gpu.ladder.rungs import RUNGS
from benchmarks.gpu.ladder.streams import Fork
from fastdqn.acting.actor import Actor
from fastdqn.errors import FastDQNError
from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.learner import Learner
from fastdqn.learning.munchausen import Munchausen
from fastdqn.networks.make import make_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.sum_tree import SumTree
from fastdqn.system.compilation import CapturedStep
from fastdqn.system.staging import HostStaging
from fastdqn.types import TimeStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda", 0)


def shape_of(image):
    return ((84, 84), 255, np.uint8) if image else ((4,), 1, np.float32)


def replay_of(image=True, seed=0, rows=300, two_rows=False, **options):
    """Rows of random numbers, as they come from envs on the host; every fifth step resets some."""
    shape, high, dtype = shape_of(image)
    space, stack = Box(0, high, shape, dtype), 4 if image else None
    options = {"prioritized": True, "device": CUDA, **options}
    replay = ReplayBuffer(8_000, 8, space, frame_stack=stack, **options)
    g = np.random.default_rng(seed)

    def frames():
        if image:
            return g.integers(0, 256, (8, *shape), dtype=np.uint8)
        return g.random((8, *shape), dtype=np.float32)

    for i in range(rows):
        step = TimeStep(
            frames(),
            g.standard_normal(8, dtype=np.float32),
            g.random(8) < 0.05,
            g.random(8) < 0.01,
            np.full(8, i == 0),
        )
        if two_rows and i:
            step = step._replace(reset_observation=frames(), reset=g.random(8) < 0.2)
        replay.add(step, None if i == 0 else g.integers(0, 4, 8))
    return replay


def parts(mode, image=True, seed=0, head=None, munchausen=None, **learner):
    shape, *_ = shape_of(image)
    stack = 4 if image else None
    replay = replay_of(image, seed)
    torch.manual_seed(seed)
    network = make_network(
        shape, 4, frame_stack=stack, image=image, hidden_sizes=(64,), dueling=True, **head or {}
    )
    objective = objective_for(network, munchausen=munchausen)
    options = {"precision": "fp32", "target_period_updates": 5, "objective": objective, **learner}
    return replay, Learner(network, mode=mode, device=CUDA, **options)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("mode", ["compile", "graph"])
def test_modes_agree_with_eager(mode, image):
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    replay, learner = parts(mode, image)
    twin, eager = parts("eager", image)
    start = eager.flat.data.clone()
    first = learner.update_from(replay, 1, batch_size=32, beta=0.5)
    expected = eager.update_from(twin, 1, batch_size=32, beta=0.5)
    torch.testing.assert_close(first.td_error, expected.td_error, rtol=1e-3, atol=1e-4)
    assert torch.equal(replay.generator.get_state(), twin.generator.get_state())
    learner.update_from(replay, 19, batch_size=32, beta=0.5)
    eager.update_from(twin, 19, batch_size=32, beta=0.5)
    assert learner.updates == eager.updates == 20
    moved, wanted = learner.flat.data - start, eager.flat.data - start
    assert torch.nn.functional.cosine_similarity(moved, wanted, dim=0) > 0.99
    assert learner.read_statistics()["finite"] == 20
    replay.tree.check_valid()


MENU = {
    "c51": {"head": {"head": "c51"}},
    "qr": {"head": {"head": "qr"}},
    "iqn": {"head": {"head": "iqn"}},
    "munchausen": {"munchausen": Munchausen()},
    "munchausen iqn": {"head": {"head": "iqn"}, "munchausen": Munchausen(policy="online")},
    "rainbow": {"head": {"head": "c51", "noisy": True}},
    "noisy iqn": {"head": {"head": "iqn", "noisy": True}},
}


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("name", MENU)
def test_the_menu_captured_learns_and_acts_as_eager(name, image):
    """The same random numbers, from generators that a graph has registered."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    replay, learner = parts("graph", image, **MENU[name])
    twin, eager = parts("eager", image, **MENU[name])
    start = eager.flat.data.clone()
    first = learner.update_from(replay, 1, batch_size=32, beta=0.5)
    expected = eager.update_from(twin, 1, batch_size=32, beta=0.5)
    for one, other in zip(first, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    learner.update_from(replay, 9, batch_size=32, beta=0.5)
    eager.update_from(twin, 9, batch_size=32, beta=0.5)
    moved, wanted = learner.flat.data - start, eager.flat.data - start
    assert torch.nn.functional.cosine_similarity(moved, wanted, dim=0) > 0.99
    assert torch.equal(learner.generator.get_state(), eager.generator.get_state())
    assert learner.read_statistics()["finite"] == 10

    captured = Actor(learner.acting_network, 8, mode="graph", device=CUDA, seed=3)
    plain = Actor(learner.acting_network, 8, mode="eager", device=CUDA, seed=3)
    agreed = 0
    for actor in (captured, plain):
        actor.epsilon.fill_(0.2)
    for _ in range(5):
        agreed += int((captured.act_from(replay) == plain.act(replay.latest())).sum())
    assert agreed >= 38  # of 40: two sums of one size may be rounded to either side
    assert torch.equal(captured.generator.get_state(), plain.generator.get_state())


def test_the_residual_network_captured_agrees_with_eager():
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    results = []
    for mode in ("graph", "eager"):
        replay, _ = parts("eager")
        torch.manual_seed(0)
        network = make_network(
            (84, 84), 4, kind="impala", frame_stack=4, hidden_sizes=(64,), impala_width=2
        )
        learner = Learner(network, mode=mode, device=CUDA, precision="fp32")
        start = learner.flat.data.clone()
        learner.update_from(replay, 5, batch_size=32, beta=0.5)
        results.append(learner.flat.data - start)
    assert torch.nn.functional.cosine_similarity(*results, dim=0) > 0.99


def test_pooling_repeats_bit_for_bit_where_that_is_asked_for():
    torch.manual_seed(0)
    network = make_network((84, 84), 4, kind="impala", frame_stack=4, hidden_sizes=(64,)).to(CUDA)
    observation = torch.randint(0, 256, (32, 4, 84, 84), dtype=torch.uint8, device=CUDA)
    torch.use_deterministic_algorithms(True)
    try:
        once, again = (
            torch.autograd.grad(network(observation).sum(), list(network.parameters()))
            for _ in range(2)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_warming_up_and_capturing_trains_nothing():
    replay, learner = parts("graph")
    before = copy.deepcopy(learner.state_dict()), replay.tree.leaves.clone()
    generator = replay.generator.get_state().clone()
    learner._beta.fill_(0.5)
    learner._capture(replay, 32, 4)
    assert torch.equal(learner.state_dict()["network"]["head.value.weight"],
                       before[0]["network"]["head.value.weight"])  # fmt: skip
    assert torch.equal(replay.tree.leaves, before[1])
    assert torch.equal(replay.generator.get_state(), generator)
    assert learner.updates == 0


def test_a_launch_of_several_updates_equals_them_one_by_one():
    replay, learner = parts("graph", image=False, updates_per_launch=4)
    twin, single = parts("graph", image=False)
    start = single.flat.data.clone()
    learner.update_from(replay, 18, batch_size=32, beta=0.5)  # target due after 5, 10, 15
    for _ in range(18):
        single.update_from(twin, 1, batch_size=32, beta=0.5)
    moved, wanted = learner.flat.data - start, single.flat.data - start
    assert torch.nn.functional.cosine_similarity(moved, wanted, dim=0) > 0.99
    assert torch.equal(replay.generator.get_state(), twin.generator.get_state())
    assert learner.updates == single.updates == 18


@pytest.mark.parametrize("to_host", [True, False])
def test_acting_in_one_graph_equals_acting(to_host):
    replay, learner = parts("graph")
    options = {"device": CUDA, "to_host": to_host, "seed": 3}
    captured = Actor(learner.acting_network, 8, mode="graph", **options)
    plain = Actor(learner.acting_network, 8, mode="eager", **options)
    for epsilon in (1.0, 0.5, 0.0):
        for actor in (captured, plain):
            actor.epsilon.fill_(epsilon)
        own = captured.act_from(replay).clone()
        assert own.is_cuda == (not to_host)
        assert torch.equal(own, plain.act(replay.latest()))
        learner.update_from(replay, 2, batch_size=32)  # new weights at the same addresses
    assert torch.equal(captured.generator.get_state(), plain.generator.get_state())


@pytest.mark.parametrize("two_rows", [False, True])
@pytest.mark.parametrize("image", [False, True])
def test_adding_in_one_graph_equals_adding(image, two_rows):
    options = {"rows": 1_100, "two_rows": two_rows, "n_step": 3, "reward_clip": 1.0}
    captured, plain = (replay_of(image, mode=mode, **options) for mode in ("graph", "eager"))
    assert captured._writer._captured and not plain._writer._captured
    ours, theirs = captured.state_dict(), plain.state_dict()
    for name, rows in theirs["ring"].items():
        assert torch.equal(ours["ring"][name], rows), name
    assert torch.equal(ours["cursor"], theirs["cursor"])
    assert torch.equal(captured.latest(), plain.latest())
    # The order of a sum is the kernel's own.
    assert torch.equal(captured.tree.leaves > 0, plain.tree.leaves > 0)
    for name in ("level_0", "level_1"):
        torch.testing.assert_close(ours["tree"][name], theirs["tree"][name], rtol=1e-6, atol=0)
    captured.tree.check_valid()


def random_transitions(count, n=8, seed=0):
    """Of images, some of which end an episode."""
    g = np.random.default_rng(seed)
    frames = g.integers(0, 256, (count + 1, n, 84, 84), dtype=np.uint8)
    no = np.zeros((count, n), bool)
    return [frames[:-1], g.integers(0, 6, (count, n)), g.standard_normal((count, n), np.float32),
            frames[1:], g.random((count, n)) < 0.05, no]  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
def test_transitions_on_cuda_are_those_on_the_cpu(masked):
    """One by one, captured and eager, and in bulk."""
    moves, space = random_transitions(300), Box(0, 255, (84, 84), np.uint8)
    options = {"frame_stack": 4, "n_step": 3, "reward_clip": 1.0}
    masks = np.random.default_rng(1).random((300, 8)) < 0.7
    cpu, graph, eager = (
        ReplayBuffer(1_600, 8, space, **options, **where)
        for where in (
            {}, {"device": CUDA, "mode": "graph"}, {"device": CUDA, "mode": "eager"},
        )
    )  # fmt: skip
    for t in range(300):
        mask = {"mask": masks[t]} if masked else {}
        for replay in (cpu, graph, eager):
            replay.add_transition(*(part[t] for part in moves), **mask)
    replays = [graph, eager]
    if not masked:
        bulk = ReplayBuffer(1_600, 8, space, device=CUDA, **options)
        bulk.extend(*moves)
        replays.append(bulk)
    on = cpu.tree.leaves.nonzero().flatten()
    expected = cpu.gather(on)
    for replay in replays:
        assert torch.equal(replay.cursor.cpu(), cpu.cursor) and len(replay) == len(cpu)
        assert torch.equal(replay.tree.leaves.cpu() > 0, cpu.tree.leaves > 0)
        for ours, theirs in zip(replay.gather(on.to(CUDA)), expected, strict=True):
            torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-6, atol=1e-6)


def test_what_only_a_gpu_sees_is_left_out_and_told():
    replay = replay_of(num_actions=6)
    before = replay.tree.leaves.clone()
    index = torch.tensor([-1, 8_000, 2**40], device=CUDA)
    replay.update_priorities(index, torch.full((3,), 9.0, device=CUDA))
    assert torch.equal(replay.tree.leaves, before)
    with pytest.raises(FastDQNError, match="outside"):
        len(replay)
    tree = SumTree(100, device=CUDA)
    tree.set(torch.arange(100, device=CUDA), torch.ones(100, device=CUDA))
    value = torch.tensor([2.0, float("nan"), -1.0, 5.0], device=CUDA)
    tree.set(torch.tensor([3, 4, 5, 100], device=CUDA), value)
    assert tree.leaves[3] == 2 and bool((tree.leaves[4:] == 1).all())
    with pytest.raises(FastDQNError, match=r"SumTree\.set was given"):
        tree.check_valid()


@pytest.mark.parametrize("prioritized", [True, False])
def test_a_compiled_draw_is_that_of_eager(prioritized):
    options = {"prioritized": prioritized, "n_step": 3}
    compiled, plain = (replay_of(mode=mode, **options) for mode in ("compile", "eager"))
    for _ in range(20):
        ours, theirs = compiled.sample(256, beta=0.5), plain.sample(256, beta=0.5)
        assert ours.observation.is_contiguous() and ours.next_observation.is_contiguous()
        # Sums in another order: a number that falls between two rows may fall to the other.
        same = ours.index == theirs.index
        assert same.float().mean() > 0.98
        for name in ("observation", "action", "reward", "discount", "next_observation"):
            one, other = getattr(ours, name)[same], getattr(theirs, name)[same]
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        priority = torch.rand(256, device=CUDA)
        for replay in (compiled, plain):
            replay.update_priorities(theirs.index, priority)
        torch.testing.assert_close(compiled.tree.leaves, plain.tree.leaves, rtol=1e-5, atol=1e-7)
        compiled.tree.check_valid()


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_draws_where_determinism_is_asked_for(mode):
    torch.use_deterministic_algorithms(True)
    try:
        first, again = (replay_of(mode=mode, seed=3).sample(256, beta=0.5) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_replays_draw_new_samples_and_the_learning_rate_can_change():
    replay, learner = parts("graph")
    first = learner.update_from(replay, 1, batch_size=32).td_error.clone()
    second = learner.update_from(replay, 1, batch_size=32).td_error.clone()
    assert not torch.equal(first, second)
    learner.set_learning_rate(0.0)
    before = learner.flat.data.clone()
    learner.update_from(replay, 3, batch_size=32)
    assert torch.equal(learner.flat.data, before)


def test_a_step_does_not_wait_for_the_device():
    replay, learner = parts("graph")
    actor = Actor(learner.acting_network, 8, device=CUDA, to_host=False)
    learner.update_from(replay, 2, batch_size=32)
    step = TimeStep(
        torch.zeros((8, 84, 84), dtype=torch.uint8, device=CUDA),
        torch.zeros(8, device=CUDA),
        *(torch.zeros(8, dtype=torch.bool, device=CUDA) for _ in range(3)),
    )
    replay.add(step, actor.act(replay.latest()))  # cuDNN starts up here
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.update_from(replay, 4, batch_size=32, beta=0.7)
        replay.add(step, actor.act(replay.latest()))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_no_allocation_after_warm_up():
    replay, learner = parts("graph")
    learner.update_from(replay, 4, batch_size=32)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    learner.update_from(replay, 50, batch_size=32)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_staging_is_one_copy_to_fixed_addresses():
    staging = HostStaging(CUDA)
    g = np.random.default_rng(0)
    addresses = None
    for _ in range(3):
        arrays = [g.integers(0, 255, (8, 84, 84), dtype=np.uint8), g.random(8, dtype=np.float32),
                  g.random(8) < 0.5]  # fmt: skip
        tensors = staging(arrays)
        assert all(np.array_equal(t.cpu().numpy(), a) for t, a in zip(tensors, arrays, strict=True))
        now = [t.data_ptr() for t in tensors]
        assert addresses in (None, now)
        addresses = now


@pytest.mark.parametrize("capacity", [1, 7, 1000, 2**20])
def test_the_tree_on_cuda_draws_as_on_the_cpu(capacity):
    tree = SumTree(capacity, device=CUDA)
    g = torch.Generator().manual_seed(0)
    value = torch.rand(capacity, generator=g) * (torch.rand(capacity, generator=g) < 0.5)
    value[0] = 1.0
    tree.set(torch.arange(capacity, device=CUDA), value.to(CUDA))
    tree.check_valid()
    for _ in range(20):
        index, drawn = tree.sample(torch.rand((tree.levels, 100_000), device=CUDA))
        assert (drawn > 0).all()
    share = torch.bincount(index, minlength=capacity)[0] / len(index)
    expected = (value[0] / value.sum()).item()
    assert abs(share.item() - expected) < 6 * (expected / len(index)) ** 0.5 + 1e-4


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_training_on_cuda(tmp_path, backend):
    from fastdqn.config.config import Config
    from fastdqn.training.train import train

    envs = ScriptedVectorEnv(
        Script(8), backend=backend, device="cpu" if backend == "numpy" else "cuda"
    )
    config = Config(
        total_env_steps=4_000, learning_starts_env_steps=400, replay_capacity=2_000, device="cuda",
        update_period_env_steps=8, prioritized=True, run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    result = train(config, envs=envs)
    assert result.summary["mode"] == "graph"
    assert result.summary["updates"] == 450


def test_a_captured_learner_loads_a_state_in_place():
    replay, learner = parts("graph")
    learner.update_from(replay, 3, batch_size=32)
    saved = copy.deepcopy((learner.state_dict(), replay.state_dict()))
    first = learner.update_from(replay, 2, batch_size=32).td_error.clone()
    learner.load_state_dict(saved[0])
    replay.load_state_dict(saved[1])
    again = learner.update_from(replay, 2, batch_size=32).td_error
    torch.testing.assert_close(first, again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"precision": "bf16"}, {"optimizer": "rmsprop"}, {"max_grad_norm": 1.0}, {"double": False}],
)
def test_variants_run_captured(options):
    replay, learner = parts("graph", **options)
    learner.update_from(replay, 10, batch_size=32)
    assert learner.read_statistics()["finite"] == 10


# --- the ladder -------------------------------------------------------------------------------

BEYOND_THE_LEARNER = [name for name, rung in RUNGS.items() if rung.parts]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_kernel_is_its_twin(check):
    check("cuda")


def rung_parts(rung, **learner):
    replay, plain = parts("eager", **learner)
    twin, _ = parts("eager")
    network = copy.deepcopy(plain.network)
    options = {"precision": "fp32", "target_period_updates": 5, **learner}
    climbing = rung_learner(network, RUNGS[rung], device=CUDA, **options)
    if "replay" in RUNGS[rung].parts:  # both draw by the kernel, which rounds in its own way
        twin = KernelReplay(twin, dtype=None)
    return rung_replay(replay, RUNGS[rung], climbing), twin, plain, climbing


@pytest.mark.parametrize("launch", [1, 4])
@pytest.mark.parametrize("rung", BEYOND_THE_LEARNER)
def test_a_captured_rung_is_the_eager_learner(rung, launch):
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    replay, twin, plain, learner = rung_parts(rung, updates_per_launch=launch)
    assert learner.mode == "graph"
    start = plain.flat.data.clone()
    first = learner.update_from(replay, launch, batch_size=32, beta=0.5)
    expected = plain.update_from(twin, launch, batch_size=32, beta=0.5)
    torch.testing.assert_close(first.td_error, expected.td_error, rtol=1e-3, atol=1e-3)
    for _ in range(4):  # the target moves after five
        learner.update_from(replay, launch, batch_size=32, beta=0.5)
        plain.update_from(twin, launch, batch_size=32, beta=0.5)
    assert learner.updates == plain.updates == 5 * launch
    moved, wanted = learner.flat.data - start, plain.flat.data - start
    assert torch.nn.functional.cosine_similarity(moved, wanted, dim=0) > 0.99
    assert learner.read_statistics()["finite"] == 5 * launch
    replay.tree.check_valid()


@pytest.mark.parametrize("rung", BEYOND_THE_LEARNER)
def test_a_captured_rung_in_bfloat16_keeps_its_copy(rung):
    replay, _, _, learner = rung_parts(rung, precision="bf16")
    learner.update_from(replay, 5, batch_size=32, beta=0.5)
    assert learner.read_statistics()["finite"] == 5
    assert torch.equal(learner._twin.data, learner.flat.data.bfloat16())


def test_streams_fork_and_join_within_a_capture():
    fork = Fork(CUDA, 3)
    x = torch.zeros(1 << 20, device=CUDA)

    def slowly(scale):
        y = x
        for _ in range(50):  # long enough that a join left out would show
            y = y * 1.0
        return y * scale

    def step():
        x.add_(1)
        a, b, c = fork(lambda: slowly(1), lambda: slowly(10), lambda: slowly(100))
        x.copy_(a + b + c)  # the next turn's branches must wait for this
        return (x,)

    for step_of_many in (step, lambda: (step(), step())[1]):
        x.zero_()
        captured = CapturedStep(step_of_many, [x], [], CUDA)
        assert torch.equal(x, torch.zeros_like(x))
        captured()
        torch.cuda.synchronize()
        wanted = 111.0 if step_of_many is step else 112.0 * 111.0
        assert torch.equal(x, torch.full_like(x, wanted))


def test_a_replay_goes_although_graphs_were_captured_for_it():
    replay, learner = parts("graph")
    actor = Actor(learner.acting_network, 8, device=CUDA)
    learner.update_from(replay, 1, batch_size=32)
    actor.act_from(replay)
    alive, size, before = weakref.ref(replay), replay.nbytes(), torch.cuda.memory_allocated()
    del replay
    assert alive() is None
    assert torch.cuda.memory_allocated() <= before - size
    replay, _ = parts("graph")
    learner.update_from(replay, 1, batch_size=32)
    actor.act_from(replay)


def test_dropout_in_a_graph_stops_and_resumes_as_uninterrupted(tmp_path):
    whole = run_with_dropout(tmp_path / "whole", device="cuda")
    run_with_dropout(tmp_path / "parts", stop=180, device="cuda")
    torch.rand(3, device=CUDA)
    parts = run_with_dropout(tmp_path / "parts", resume="require", device="cuda")
    assert_same_checkpoint(whole, parts)


def test_the_process_is_as_before_a_run(tmp_path):
    def state():
        return (
            torch.backends.cudnn.benchmark,
            torch.are_deterministic_algorithms_enabled(),
            torch.cuda.current_device(),
            torch.cuda.get_rng_state(CUDA).tolist(),
        )

    before = state()
    run_with_dropout(tmp_path, device="cuda", deterministic=not before[1])
    assert state() == before
