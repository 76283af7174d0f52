"""TorchRL's buffers with our sampler: frequencies, weights, priorities, state."""

import json
import pickle
import random

import numpy as np
import pytest
import torch
from helpers.planted import plant
from tensordict import TensorDict
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, ListStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers import TensorDictMaxValueWriter

from fastdqn.errors import CheckpointError
from fastdqn.integrations.torchrl import SumTreeSampler, priority_tree
from fastdqn.integrations.torchrl.smallest import SmallestLeaf

pytestmark = pytest.mark.usefixtures("both_ways")

EPS = 1e-8


def buffer(size=16, storage=None, batch_size=None, generator=None, **kwargs):
    return TensorDictReplayBuffer(
        storage=LazyTensorStorage(size) if storage is None else storage,
        sampler=SumTreeSampler(size, **kwargs),
        batch_size=batch_size,
        priority_key="p",
        generator=generator,
    )


def rows(*shape):
    return TensorDict({"a": torch.arange(int(np.prod(shape))).reshape(shape)}, shape)


def filled(priorities, **kwargs):
    made = buffer(len(priorities), **kwargs)
    index = made.extend(rows(len(priorities)))
    made.update_priority(index, torch.tensor(priorities))
    return made


# --- frequencies and weights ---------------------------------------------------------------------


def chi_square(counts, chances):
    expected = counts.sum() * chances
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_rows_are_drawn_as_often_as_alpha_says(alpha):
    """One row at a time, so that draws are independent; 29.6 is the quantile 0.999 of 10."""
    priorities = np.linspace(0.1, 3.0, 11)
    made = filled(priorities.tolist(), alpha=alpha, generator=torch.Generator().manual_seed(3))
    drawn = [int(made.sampler.sample(made.storage, 1)[0]) for _ in range(4000)]
    counts = np.bincount(drawn, minlength=11)
    chances = (priorities + EPS) ** alpha
    assert chi_square(counts, chances / chances.sum()) < 29.6
    other = (priorities + EPS) ** (alpha + 0.3)
    assert chi_square(counts, other / other.sum()) > 29.6, "the test sees another alpha"


def test_a_batch_takes_one_row_of_each_part_of_the_total():
    made = filled([1.0] * 8, alpha=1.0, batch_size=8)
    for _ in range(5):
        assert made.sample()["index"].tolist() == list(range(8))


@pytest.mark.parametrize("weights", ["batch", "buffer"])
def test_weights_by_hand(weights):
    """Leaves 1, 4, 16, beta 0.5: 1, 1/2 and 1/4 beside the smallest."""
    made = filled([1.0, 4.0, 16.0], alpha=1.0, beta=0.5, weights=weights, batch_size=64)
    by_row = torch.tensor([1.0, 0.5, 0.25])
    sample = made.sample()
    torch.testing.assert_close(sample["priority_weight"], by_row[sample["index"]])
    made.update_priority(torch.tensor([0]), torch.tensor([0.0]))  # hardly ever drawn
    sample = made.sample()
    assert 0 not in sample["index"]
    smallest = EPS if weights == "buffer" else 4.0
    expected = (torch.tensor([0.0, 4.0, 16.0]) / smallest)[sample["index"]] ** -0.5
    torch.testing.assert_close(sample["priority_weight"], expected)


def test_beta_0_weighs_nothing_and_beta_may_change():
    made = filled([1.0, 9.0], beta=0.0)
    assert made.sample(64)["priority_weight"].eq(1).all()
    made.sampler.beta = torch.tensor(1.5)
    assert made.sampler.beta == 1.5
    assert made.sample(64)["priority_weight"].min() < 0.9


def test_the_same_generator_draws_the_same():
    def drawn(seed):
        made = filled([1.0] * 50, batch_size=20, generator=torch.Generator().manual_seed(seed))
        return torch.cat([made.sample()["index"] for _ in range(3)]).tolist()

    assert drawn(1) == drawn(1) != drawn(2)


# --- against a plain model -----------------------------------------------------------------------


class Model:
    """Rows in a dictionary, after Schaul 2016, section 3.3."""

    def __init__(self, alpha):
        self.alpha, self.raw, self.largest = alpha, {}, 1.0

    def new(self, rows):
        self.raw |= dict.fromkeys(rows, self.largest)

    def update(self, rows, priorities):
        found = {}
        for row, priority in zip(rows, priorities, strict=True):
            if row >= 0:
                priority = priority if np.isfinite(priority) else self.largest
                found[row] = max(found.get(row, 0.0), priority)
        self.raw |= found
        self.largest = max([self.largest, *found.values()])

    def leaves(self, size):
        return [(self.raw[i] + EPS) ** self.alpha if i in self.raw else 0.0 for i in range(size)]


@pytest.mark.parametrize("weights", ["batch", "buffer"])
def test_leaves_after_any_sequence_of_calls(weights):
    dice, size = random.Random(7), 70
    sampler, model = SumTreeSampler(size, 0.6, 0.4, weights=weights), Model(0.6)
    for _ in range(60):
        some = [dice.randrange(-1, size) for _ in range(dice.randrange(1, 9))]
        if dice.random() < 0.4:
            some = [row for row in some if row >= 0]
            sampler.mark_update(torch.tensor(some, dtype=torch.int64))
            model.new(some)
        else:
            values = [dice.choice([0.0, 0.3, 2.0, 5.0, float("nan")]) for _ in some]
            sampler.update_priority(torch.tensor(some), torch.tensor(values))
            model.update(some, values)
        torch.testing.assert_close(sampler.leaves, torch.tensor(model.leaves(size)))
        assert sampler.default_priority == pytest.approx(model.largest)
    if weights == "buffer":
        smallest = min(leaf for leaf in model.leaves(size) if leaf > 0)
        assert float(sampler._tree._smallest.value) == pytest.approx(smallest)


def test_a_planted_fault_is_seen(monkeypatch, both_ways):
    if both_ways == "loops":
        pytest.skip("compiled loops take no faults")
    plant(monkeypatch, priority_tree, "(raw + eps) ** alpha", "(raw + eps) ** 1.0")
    with pytest.raises(AssertionError):
        test_leaves_after_any_sequence_of_calls("batch")


def test_the_smallest_of_many_leaves():
    """Every group of every level, with ties; some updates take away all that was smallest."""
    generator = torch.Generator().manual_seed(0)
    leaves = torch.zeros(2000)
    smallest = SmallestLeaf(leaves)
    assert float(smallest.value) == float("inf")
    for turn in range(60):
        index = torch.randint(2000, (50,), generator=generator).unique()
        leaves[index] = torch.randint(3 + turn, (len(index),), generator=generator).float()
        smallest.update(index)
        if turn % 3 == 2:
            index = torch.nonzero(leaves == leaves[leaves > 0].min()).flatten()
            leaves[index] = 0.0
            smallest.update(index)
        assert float(smallest.value) == float(leaves[leaves > 0].min())
        expected = leaves.masked_fill(leaves == 0, float("inf"))
        for level in smallest._levels:
            assert torch.equal(level[: len(expected)], expected)
            padded = torch.full((-(-len(expected) // 32) * 32,), float("inf"))
            padded[: len(expected)] = expected
            expected = padded.view(-1, 32).amin(dim=1)


# --- storages and indices ------------------------------------------------------------------------

STORAGES = {
    "tensor": lambda: LazyTensorStorage(12),
    "list": lambda: ListStorage(12),
    "memmap": lambda: LazyMemmapStorage(12),
    "two dimensions": lambda: LazyTensorStorage(12, ndim=2),
}


@pytest.mark.parametrize("kind", STORAGES)
def test_every_storage(kind):
    """New rows have the largest priority, data may name another, an update reaches its rows."""
    shape = (2, 3) if kind == "two dimensions" else (6,)
    made = buffer(12, STORAGES[kind](), alpha=1.0, beta=1.0)
    made.extend(rows(*shape))
    assert made.sampler.leaves.tolist() == pytest.approx([1.0] * 6 + [0.0] * 6)
    made.extend(rows(*shape).set("p", torch.full(shape, 0.5)))
    assert made.sampler.leaves.tolist() == pytest.approx([1.0] * 6 + [0.5] * 6)
    sample = made.sample(4)
    sample["p"] = torch.full((4,), 1e9)
    made.update_tensordict_priority(sample)
    assert (made.sampler.leaves == 1e9).sum() == len(sample["index"].unique(dim=0))
    again = made.sample(4)
    marked = {tuple(np.atleast_1d(row)) for row in sample["index"].tolist()}
    assert {tuple(np.atleast_1d(row)) for row in again["index"].tolist()} <= marked
    made.extend(rows(*shape))  # over the oldest
    assert made.sampler.leaves[:6].tolist() == [1e9] * 6
    made.empty()
    assert not made.sampler.leaves.any()


def test_rows_of_a_storage_of_two_dimensions_are_counted_as_torchrl_counts_them():
    made = buffer(12, LazyTensorStorage(12, ndim=2), alpha=1.0)
    made.extend(rows(2, 3))
    made.update_priority((torch.tensor([1, 2]), torch.tensor([0, 1])), torch.tensor([7.0, 8.0]))
    made.sampler.update_priority(torch.tensor([[0, 1]]), 9.0, storage=made.storage)
    assert made.sampler.leaves[:6].tolist() == pytest.approx([1, 9, 7, 1, 1, 8])


@pytest.mark.parametrize(
    ("index", "priority"),
    [
        (3, 5.0),
        (np.int64(3), torch.tensor(5.0)),
        (torch.tensor(3), torch.tensor([5.0])),
        (torch.tensor([3]), np.float32(5)),
        (torch.tensor([[3]]), torch.tensor([[5.0]])),
        (torch.tensor([3, -1]), 5),
        (
            torch.tensor([3, 3], dtype=torch.int32),
            torch.tensor([[5.0], [2.0]], dtype=torch.float64),
        ),
        (range(3, 4), 5.0),
    ],
)
def test_forms_of_an_index_and_of_a_priority(index, priority):
    sampler = SumTreeSampler(6, 1.0, 1.0)
    sampler.update_priority(index, priority)
    assert sampler.leaves.tolist() == pytest.approx([0, 0, 0, 5, 0, 0])


def test_a_writer_that_leaves_data_out():
    """MaxValueWriter names -1 what it did not write."""
    made = TensorDictReplayBuffer(
        storage=LazyTensorStorage(2), sampler=SumTreeSampler(2, 1.0, 1.0),
        writer=TensorDictMaxValueWriter(rank_key="rank"),
    )  # fmt: skip
    data = rows(4).set("rank", torch.tensor([3.0, 4.0, 1.0, 2.0]))
    made.extend(data)
    assert sorted(made.sample(8)["a"].unique().tolist()) == [0, 1]


def test_the_largest_within_the_buffer():
    sampler = SumTreeSampler(4, 0.5, 1.0, max_priority_within_buffer=True)
    assert sampler.default_priority == 1
    sampler.update_priority(torch.tensor([0, 1]), torch.tensor([9.0, 0.25]))
    assert sampler.default_priority == pytest.approx(9.0)
    sampler.update_priority(0, 0.16)
    assert sampler.default_priority == pytest.approx(0.25)
    ever = SumTreeSampler(4, 0.5, 1.0)
    ever.update_priority(torch.tensor([0, 0]), torch.tensor([9.0, 0.25]))
    ever.update_priority(0, 0.16)
    assert ever.default_priority == 9


# --- state ---------------------------------------------------------------------------------------


def test_a_state_is_a_copy_and_comes_back():
    made = filled([0.5, 2.0, 3.0], alpha=0.7, beta=0.9)
    state = made.sampler.state_dict()
    other = filled([1.0, 1.0, 1.0], weights="buffer")
    other.sampler.load_state_dict(state)
    state["leaves"].zero_()
    for sampler in (made.sampler, other.sampler):
        assert (sampler.alpha, sampler.beta, sampler.default_priority) == (0.7, 0.9, 3.0)
        assert sampler.leaves[0].item() == pytest.approx(0.5**0.7)
    torch.testing.assert_close(made.sampler.leaves, other.sampler.leaves)


@pytest.mark.parametrize("weights", ["batch", "buffer"])
def test_a_pickled_sampler_goes_on_alone(weights):
    made = filled([0.5, 2.0, 3.0], alpha=1.0, weights=weights)
    other = pickle.loads(pickle.dumps(made.sampler))  # noqa: S301
    other.update_priority(torch.tensor([1]), 1e7)
    torch.testing.assert_close(other.leaves, torch.tensor([0.5, 1e7, 3.0]))
    index, info = other.sample(made.storage, 64)
    assert index.eq(1).all() and other.default_priority == 1e7
    expected = 1.0 if weights == "batch" else (0.5 / 1e7) ** 0.4
    torch.testing.assert_close(info["priority_weight"], torch.full((64,), expected))
    torch.testing.assert_close(made.sampler.leaves, torch.tensor([0.5, 2.0, 3.0]))


def test_a_buffer_on_the_disk(tmp_path):
    made = filled([0.5, 2.0, 3.0], alpha=0.7, beta=0.9)
    made.dumps(tmp_path / "b")
    other = buffer(3)
    other.loads(tmp_path / "b")
    torch.testing.assert_close(made.sampler.leaves, other.sampler.leaves)
    assert (other.sampler.alpha, other.sampler.default_priority) == (0.7, 3.0)
    assert sorted(other.sample(64)["a"].unique().tolist()) == [0, 1, 2]


def write_theirs(directory, **changes):
    """What TorchRL's PrioritizedSampler of three rows writes."""
    about = {
        "_alpha": 0.5, "_beta": 0.9, "_eps": 1e-8, "_max_priority": [4.0, 1.0],
        "_max_capacity": 3.0, "_schema_version": 1.0, **changes,
    }  # fmt: skip
    np.array([1.0, 2.0, 0.0]).tofile(directory / "sumtree.memmap")
    np.array([1.0, 2.0, np.inf]).tofile(directory / "mintree.memmap")
    (directory / "sampler_metadata.json").write_text(json.dumps(about))


def test_files_are_torchrls(tmp_path):
    write_theirs(tmp_path)
    sampler = SumTreeSampler(3)
    sampler.loads(tmp_path)
    assert sampler.leaves.tolist() == [1.0, 2.0, 0.0]
    assert (sampler.alpha, sampler.beta, sampler.default_priority) == (0.5, 0.9, 4.0)
    theirs = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    sampler.dumps(tmp_path)
    for name in ("sumtree.memmap", "mintree.memmap"):
        assert (tmp_path / name).read_bytes() == theirs[name]
    about = json.loads((tmp_path / "sampler_metadata.json").read_text())
    assert about == json.loads(theirs["sampler_metadata.json"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"_max_capacity": 4.0}, "no priorities of 4 rows"),
        ({"_max_priority": [float("nan"), 0.0]}, "no priorities"),
        ({"_max_priority": None}, "no saved sampler"),
        ({"_alpha": "x"}, "no saved sampler"),
    ],
)
def test_damaged_files(tmp_path, change, what):
    write_theirs(tmp_path, **change)
    with pytest.raises(CheckpointError, match=what):
        SumTreeSampler(3).loads(tmp_path)


def test_files_that_are_not_there_or_of_another_size(tmp_path):
    with pytest.raises(CheckpointError, match="no saved sampler"):
        SumTreeSampler(3).loads(tmp_path)
    write_theirs(tmp_path)
    with pytest.raises(CheckpointError, match="3 rows, this one 4"):
        SumTreeSampler(4).loads(tmp_path)
    np.array([1.0, -2.0, 0.0]).tofile(tmp_path / "sumtree.memmap")
    with pytest.raises(CheckpointError, match="no priorities"):
        SumTreeSampler(3).loads(tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("weights", ["batch", "buffer"])
def test_on_a_gpu(weights):
    storage = LazyTensorStorage(64, device="cuda")
    made = buffer(64, storage, alpha=1.0, beta=1.0, weights=weights, batch_size=32)
    made.extend(rows(40).to("cuda"))
    assert made.sampler.device.type == "cuda"
    made.update_priority(torch.tensor([5, -1], device="cuda"), torch.tensor([1e4, 3.0]).cuda())
    sample = made.sample()
    assert sample["index"].is_cuda and sample["priority_weight"].is_cuda
    assert (sample["a"] == 5).sum() >= 30
    assert made.sampler.leaves[40:].eq(0).all()
    made.sampler._tree._tree.check_valid()
