"""What TorchRL's own tests state of a prioritized buffer: docs/backend/torchrl.md lists it."""

import warnings

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import (
    LazyMemmapStorage,
    LazyTensorStorage,
    ListStorage,
    ReplayBuffer,
    TensorDictReplayBuffer,
)
from torchrl.data.replay_buffers import RandomSampler, RoundRobinWriter
from torchrl.data.replay_buffers.scheduler import LinearScheduler, SchedulerList, StepScheduler

from fastdqn.errors import FastDQNError
from fastdqn.integrations.torchrl import SumTreeSampler

EPS = 1e-8
STORAGES = [None, ListStorage, LazyTensorStorage, LazyMemmapStorage]
WITHIN = pytest.mark.parametrize("within", [False, True])


def sampler(size, alpha=0.7, beta=0.9, within=False, **kwargs):
    return SumTreeSampler(size, alpha, beta, max_priority_within_buffer=within, **kwargs)


def tensordicts(size, storage=None, **kwargs):
    kind = storage(size) if storage is not None else None
    return TensorDictReplayBuffer(
        storage=kind, sampler=sampler(1000 if kind is None else size), batch_size=3, **kwargs
    )


def data(count):
    values = torch.randint(100, (count,))
    return TensorDict({"a": values, "b": {"c": values + 1}}, [count])


# --- buffers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("size", [3, 5, 100])
def test_the_writer_goes_round(storage, size):
    made = tensordicts(size, storage)
    made.extend(data(5))
    assert made.writer._cursor == (5 if storage is None else 5 % size)
    assert len(made) == (5 if storage is None else min(5, size))


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_added_is_drawn_and_what_is_emptied_is_not(storage):
    made = tensordicts(5, storage)
    for _ in range(2):
        item = TensorDict({"a": torch.randint(100, (1,))}, [])
        made.add(item)
        assert (made.sample(3)["a"] == item["a"]).all()
        made.empty()
        with pytest.raises(FastDQNError, match="empty storage"):
            made.sample(3)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("size", [3, 5, 100])
def test_every_item_drawn_is_one_that_was_written(storage, size):
    made = tensordicts(size, storage)
    written = data(5)
    made.extend(written)
    kept = written["a"][-min(size, 5) :] if storage is not None else written["a"]
    for sample in (made.sample(), *(batch for batch, _ in zip(made, range(5), strict=False))):
        assert set(sample["a"].tolist()) <= set(kept.tolist())
        assert (sample["b", "c"] == sample["a"] + 1).all()
        torch.testing.assert_close(made[sample["index"]]["a"], sample["a"])


@pytest.mark.parametrize("key", ["pk", "td_error"])
@pytest.mark.parametrize("storage", [ListStorage, LazyTensorStorage])
def test_a_very_large_priority_is_all_that_is_drawn(key, storage):
    made = TensorDictReplayBuffer(
        storage=storage(5), sampler=sampler(5), batch_size=5, priority_key=key
    )
    for count in (3, 5):
        made.extend(TensorDict({"a": torch.arange(count), key: torch.rand(count, 1) / 10}, [count]))
    sample = made.sample()
    chosen = sample["a"][0]
    sample[key] = torch.where(sample["a"] == chosen, 1e8, 0.05).unsqueeze(-1)
    made.update_tensordict_priority(sample)
    assert (made.sample()["a"] == chosen).all()


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize("reduction", ["min", "max", "median", "mean"])
def test_trajectories_have_one_priority_each(stack, reduction):
    trajectories = TensorDict({"obs": torch.randn(3, 4, 5)}, [3, 4])
    if stack:
        trajectories = torch.stack(list(trajectories), 0)
    made = TensorDictReplayBuffer(
        storage=ListStorage(5), sampler=sampler(5, 1.0, reduction=reduction), batch_size=3,
        priority_key="td_error",
    )  # fmt: skip
    made.extend(trajectories)
    sample = made.sample()
    errors = torch.rand(3, 4)
    sample["td_error"] = errors
    made.update_tensordict_priority(sample)
    reduced = {
        "min": errors.amin(1), "max": errors.amax(1), "median": errors.median(1)[0],
        "mean": errors.mean(1),
    }[reduction]  # fmt: skip
    index = sample["index"][:, 0]
    torch.testing.assert_close(made.sampler.leaves[index], reduced + EPS)
    assert made.sample().batch_size == torch.Size([3, 4])


def test_a_generator_that_is_set_back_draws_again():
    made = ReplayBuffer(
        storage=LazyTensorStorage(100), sampler=sampler(100, 1.0, 1.0), generator=torch.Generator(),
    )  # fmt: skip
    made.extend(torch.arange(100))
    made.update_priority(torch.arange(100), torch.arange(1, 101))
    state = made._rng.get_state()
    first = made.sample(32)
    made._rng.set_state(state)
    assert (made.sample(32) == first).all()
    assert (made.sample(32) != first).any()


def test_a_storage_shared_with_another_buffer():
    storage, writer = LazyMemmapStorage(100), RoundRobinWriter()
    one, other = (
        ReplayBuffer(storage=storage, writer=writer, sampler=kind, batch_size=10)
        for kind in (RandomSampler(), sampler(100, beta=1.1))
    )
    one.extend(TensorDict({"a": torch.arange(50)}, [50]))
    assert len(other) == 50
    other.sample()
    assert other.sampler.leaves.tolist() == pytest.approx([1.0] * 50 + [0.0] * 50)


def test_exponents_that_are_scheduled():
    made = tensordicts(1000, ListStorage)
    made.extend(TensorDict({"data": torch.randn(1000, 5)}, [1000]))
    schedules = SchedulerList(
        [
            LinearScheduler(made, "alpha", final_value=0.2, num_steps=20),
            StepScheduler(made, "beta", gamma=0.1, n_steps=10, max_value=1.05, mode="additive"),
        ]
    )
    for step in range(40):
        assert made.sampler.alpha == pytest.approx(0.7 - 0.5 * min(step, 20) / 20)
        assert made.sampler.beta == pytest.approx(min(0.9 + 0.1 * (step // 10), 1.05))
        made.sample()
        schedules.step()


# --- the largest priority ------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.4, 0.7])
@WITHIN
def test_a_new_item_is_as_likely_as_the_likeliest(alpha, within):
    made = sampler(10, alpha, within=within)
    made.update_priority(torch.tensor([0]), torch.tensor([100.0]))
    made.mark_update(torch.tensor([1]))
    assert made.leaves[:2].tolist() == pytest.approx([(100 + EPS) ** alpha] * 2)


def test_the_largest_within_the_buffer_is_raw():
    made = sampler(5, 0.6, within=True)
    made.update_priority(torch.tensor([0, 1]), torch.tensor([100.0, 10.0]))
    made.update_priority(torch.tensor([0]), torch.tensor([50.0]))
    assert made.default_priority == pytest.approx(50.0)
    made.mark_update(torch.tensor([2]))
    assert float(made.leaves[2]) == pytest.approx((50 + EPS) ** 0.6)


@WITHIN
def test_alpha_0_remembers_the_largest(within):
    made = sampler(5, 0.0, within=within)
    made.update_priority(torch.tensor([0, 1]), torch.tensor([100.0, 10.0]))
    made.update_priority(torch.tensor([0]), torch.tensor([50.0]))
    assert made.default_priority == 100.0


@WITHIN
@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_the_largest_as_items_are_overwritten(alpha, within):
    made = ReplayBuffer(storage=LazyTensorStorage(11), sampler=sampler(11, alpha, within=within))
    for item in range(20):
        index = made.add(torch.tensor(item))
        made.update_priority(index, 21 - item)
        oldest = max(0, item - 10)
        assert made.sampler.default_priority == pytest.approx(21 - oldest if within else 21)
        if within:
            assert int(made.sampler.leaves.argmax()) == oldest % 11


# --- alpha changes -------------------------------------------------------------------------------


def test_alpha_is_checked_and_may_fall_in_silence():
    made = sampler(5, within=True)
    with pytest.raises(FastDQNError, match="alpha = -1"):
        made.alpha = -1.0
    assert made.alpha == 0.7
    made.update_priority(torch.tensor([0]), torch.tensor([100.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.alpha = made.alpha = 0.6
        made.alpha = 0.5


@WITHIN
@pytest.mark.parametrize("alpha", [0.5, 0.0])
def test_another_alpha_holds_for_what_is_there(within, alpha):
    made = ReplayBuffer(storage=LazyTensorStorage(10), sampler=sampler(10, 1.0, within=within))
    priorities = torch.arange(1.0, 7.0)
    made.update_priority(made.extend(torch.arange(6)), priorities)
    made.sampler.alpha = alpha
    torch.testing.assert_close(made.sampler.leaves[:6], (priorities + EPS) ** alpha)
    assert not made.sampler.leaves[6:].any()
    assert made.sampler.default_priority == pytest.approx(6.0)
    made.sample(5)
    if within and alpha:
        made.update_priority(torch.tensor([5]), torch.tensor([2.0]))
        assert made.sampler.default_priority == pytest.approx(5.0)


def test_from_alpha_0_on_items_stay_alike_until_they_are_updated():
    made = sampler(10, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.alpha = 0.5
        made.alpha = 0.0
    made.update_priority(torch.tensor([0, 1]), torch.tensor([3.0, 4.0]))
    with pytest.warns(UserWarning, match="all rows are alike"):
        made.alpha = 0.5
    assert made.leaves[:2].tolist() == [1.0, 1.0]
    made.update_priority(torch.tensor([0]), torch.tensor([3.0]))
    assert float(made.leaves[0]) == pytest.approx(3**0.5)


# --- saved and loaded ----------------------------------------------------------------------------


def test_a_saved_buffer_brings_its_exponents_and_its_largest(tmp_path):
    one = ReplayBuffer(storage=LazyMemmapStorage(10), sampler=sampler(10, 0.8, 0.6))
    other = ReplayBuffer(storage=LazyMemmapStorage(10), sampler=sampler(10, 0.5, 0.5))
    for made, value in ((one, 0.0), (other, 1.0)):
        made.extend(TensorDict({"obs": torch.full((1, 3), value)}, [1]))
    one.update_priority(0, 7.0)
    one.save(tmp_path / "b")
    other.load(tmp_path / "b")
    for name in ("alpha", "beta", "default_priority"):
        assert getattr(other.sampler, name) == getattr(one.sampler, name)
    assert (other.sample(4)["obs"] == 0).all()


def test_a_state_of_the_whole_buffer():
    one, other = tensordicts(10, LazyTensorStorage), tensordicts(10, LazyTensorStorage)
    for made in (one, other):
        made.extend(data(10))
    one.update_priority(torch.arange(10), torch.arange(1.0, 11.0))
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(other.sampler.leaves, one.sampler.leaves)
    assert set(other.sample()["a"].tolist()) <= set(one.storage[:]["a"].tolist())


def test_a_new_sampler_for_a_storage_with_data(tmp_path):
    one = tensordicts(10, LazyTensorStorage, priority_key="td_error")
    one.extend(TensorDict({"s": torch.ones(4, 2), "td_error": torch.full((4,), 0.5)}, [4]))
    one.dumps(tmp_path / "b")
    loaded = tensordicts(10, LazyTensorStorage, priority_key="td_error")
    loaded.loads(tmp_path / "b")
    new = TensorDictReplayBuffer(storage=loaded.storage, sampler=sampler(4), batch_size=2)
    assert new.sample().batch_size == torch.Size([2]) and len(new) == 4
    assert new.sampler.leaves.tolist() == pytest.approx([1.0] * 4)
    torch.testing.assert_close(loaded.sampler.leaves, one.sampler.leaves)
