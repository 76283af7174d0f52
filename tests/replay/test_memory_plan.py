"""Plans before allocations: bytes by hand, refusals that name what fits, and what is available."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.errors import FastDQNError, MemoryPlanError
from fastdqn.replay import memory_plan
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.memory_plan import HEADROOM, MemoryPlan, format_bytes, make_plan

ATARI = Box(0, 255, (84, 84), np.uint8)
VECTOR = Box(-1, 1, (4,), np.float32)


@pytest.fixture
def have(monkeypatch):
    """Sets the bytes that the device is said to have."""

    def set_available(size):
        monkeypatch.setattr(memory_plan, "available_memory", lambda device: size)

    return set_available


def capacity_named(error):
    (number,) = re.findall(r"the largest replay_capacity that fits is (\d+)", str(error.value))
    return int(number)


# --- plans ---------------------------------------------------------------------------------------


def test_plan_of_a_vector_replay_by_hand(have):
    have(10**9)
    plan = ReplayBuffer.plan(1003, 8, VECTOR, batch_size=32)
    assert plan.capacity == 1000  # a multiple of 8
    assert dict(plan.parts) == {
        "frames": 1001 * 4 * 4,  # the frame of zeros included
        "scalars": 1000 * 16,  # action 8, reward 4, three flags, one unused
        "sum tree": 1000 * 4,  # one level
        "batch": 32 * (2 * 4 * 4 + 5 * 8),
    }
    assert plan.total == 16016 + 16000 + 4000 + 2304
    assert plan.device == "cpu" and plan.available == 10**9


def test_a_million_atari_steps_are_planned_at_7_1_gb(have):
    have(None)
    plan = ReplayBuffer.plan(1_000_000, 16, ATARI, frame_stack=4, batch_size=32)
    assert plan.capacity == 1_000_000
    assert plan.total == pytest.approx(7.1e9, rel=0.02)
    assert plan.parts["frames"] == 1_000_001 * 84 * 84
    assert plan.parts["batch"] == 32 * (2 * 4 * 84 * 84 + 40)
    assert plan.parts["sum tree"] == 4 * (1_000_000 + 31_264 + 977)  # 31250 padded to 32s


def storages_of(thing, seen):
    """Every distinct storage reachable from the attributes of fastdqn's objects."""
    if isinstance(thing, torch.Tensor):
        storage = thing.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    elif isinstance(thing, dict):
        for value in thing.values():
            storages_of(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            storages_of(value, seen)
    elif type(thing).__module__.startswith("tensordict"):
        storages_of(dict(thing.items()), seen)
    elif type(thing).__module__.startswith("fastdqn"):
        storages_of(vars(thing), seen)
    return sum(seen.values())


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize(
    ("capacity", "num_envs", "space", "stack"),
    [(20_000, 16, ATARI, 4), (50_000, 4, VECTOR, None), (3_000, 3, VECTOR, 2)],
)
def test_what_is_allocated_is_what_was_planned(capacity, num_envs, space, stack, prioritized):
    kwargs = {"frame_stack": stack, "n_step": 3, "prioritized": prioritized}
    plan = ReplayBuffer.plan(capacity, num_envs, space, batch_size=32, **kwargs)
    replay = ReplayBuffer(capacity, num_envs, space, **kwargs)
    planned = plan.total - plan.parts["batch"]
    assert replay.capacity == plan.capacity
    assert replay.nbytes() == pytest.approx(planned, rel=0.01)
    assert storages_of(replay, {}) == pytest.approx(planned, rel=0.01)


GROWTH_OF_A_REPLAY = """
import os
import numpy as np
from gymnasium.spaces import Box
from fastdqn import ReplayBuffer

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

frame = Box(0, 255, (84, 84), np.uint8)
kwargs = {"frame_stack": 4, "n_step": 3}
ReplayBuffer(200, 4, frame, **kwargs)
plan = ReplayBuffer.plan(20_000, 4, frame, batch_size=1, **kwargs)
before = resident()
replay = ReplayBuffer(20_000, 4, frame, **kwargs)
print(resident() - before, plan.total, replay.capacity, plan.capacity)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's figures")
def test_the_pages_of_a_replay_are_there_once_it_is_made():
    # Pages that the kernel has only promised may be refused in the middle of a run. In a process of
    # its own: this one may hold enough freed memory for the replay, so that nothing grows.
    command = [sys.executable, "-c", GROWTH_OF_A_REPLAY]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    grown, planned, capacity, planned_capacity = map(int, done.stdout.split())
    assert grown == pytest.approx(planned, rel=0.05)
    assert capacity == planned_capacity


def test_a_plan_prints_its_parts(have):
    have(8 * 10**9)
    text = str(ReplayBuffer.plan(1_000_000, 16, ATARI, frame_stack=4, batch_size=32))
    for word in ("frames", "7.06 GB", "scalars", "16.00 MB", "sum tree", "4.13 MB", "total"):
        assert word in text
    assert "7.08 GB on cpu (8.00 GB available)" in text
    assert "available" not in str(MemoryPlan("cpu", 1, {"a": 1}, None))


def test_a_plan_cannot_be_changed(have):
    have(None)
    with pytest.raises(TypeError):
        make_plan("cpu", 10, lambda rows: {"a": rows}, 1).parts["a"] = 0


# --- refusals ------------------------------------------------------------------------------------


def test_make_plan_by_hand(have):
    have(1000)  # of which 900 count

    def parts(rows):
        return {"rows": rows * 9, "fixed": 180}

    assert make_plan("cpu", 80, parts, 4).total == 900
    with pytest.raises(MemoryPlanError) as error:
        make_plan("cpu", 100, parts, 4)
    assert capacity_named(error) == 80
    assert "replay_capacity = 100 needs 1.08 kB on cpu, where 1.00 kB are available" in str(
        error.value
    )
    assert "90%" in str(error.value)


def test_where_nothing_fits_no_capacity_is_named(have):
    have(1000)
    with pytest.raises(MemoryPlanError, match="not even the smallest replay fits"):
        ReplayBuffer.plan(1_000_000, 16, ATARI, frame_stack=4, batch_size=32)


def test_where_nobody_knows_everything_passes_and_nothing_is_allocated(have):
    have(None)
    assert ReplayBuffer.plan(10**9, 16, ATARI, frame_stack=4, batch_size=32).total > 7e12


@pytest.mark.parametrize(("space", "stack"), [(ATARI, 4), (VECTOR, None), (VECTOR, 4)])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_capacity_named_is_the_largest_that_fits(have, space, stack, share, device):
    def plan(capacity):
        return ReplayBuffer.plan(
            capacity, 16, space, frame_stack=stack, batch_size=32, device=device
        )

    have(None)
    wanted = 1_000_000
    have(int(plan(wanted).total * share / HEADROOM))
    with pytest.raises(MemoryPlanError) as error:
        plan(wanted)
    named = capacity_named(error)
    assert named % 16 == 0 and 0 < named < wanted
    assert plan(named).capacity == named
    with pytest.raises(MemoryPlanError):
        plan(named + 16)


@settings(max_examples=200)
@given(
    capacity=st.integers(1000, 10**8),
    num_envs=st.integers(1, 100),
    length=st.integers(1, 100),
    stack=st.one_of(st.none(), st.integers(1, 4)),
    available=st.integers(10**4, 10**10),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_the_capacity_named_is_never_refused_for_memory(
    capacity, num_envs, length, stack, available, device
):
    space = Box(-1, 1, (length,), np.float32)

    def plan(rows):
        return ReplayBuffer.plan(
            rows, num_envs, space, frame_stack=stack, batch_size=32, device=device
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_plan, "available_memory", lambda _: available)
        try:
            plan(capacity)
        except MemoryPlanError as error:
            named = re.search(r"that fits is (\d+)", str(error))
            if named is not None:
                try:
                    assert plan(int(named[1])).total <= available * HEADROOM
                except MemoryPlanError:
                    raise AssertionError(f"{named[1]} does not fit") from None
                except FastDQNError:
                    pass  # it fits, but it is too few rows for one transition
        except FastDQNError:
            pass  # fewer rows than one transition needs


# --- what is available ---------------------------------------------------------------------------


def test_this_machine_has_memory():
    available = memory_plan.available_memory("cpu")
    assert available is not None and 10**6 < available < 10**15


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (7_060_000_000, "7.06 GB"),
        (123_456, "123.46 kB"),
        (5e12, "5.00 TB"),
        (2.5e15, "2500.00 TB"),
    ],
)
def test_format_bytes(size, text):
    assert format_bytes(size) == text
