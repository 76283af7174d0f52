"""The sum tree against float64 sums, chi-square tests, and faults planted in it.

The checkers (``*_fault``) return what is wrong, or None, so that the last tests can show that each
of them notices a fault.
"""

import copy
import math
import pickle
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.interpreted_loops import interpret
from helpers.saved_by_torch import saved_by_torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.errors import CheckpointError, FastDQNError
from fastdqn.replay import sum_tree_torch
from fastdqn.replay.sum_tree import SumTree, level_sizes

pytestmark = pytest.mark.usefixtures("both_ways")

ALMOST_ONE = 1 - 2.0**-24
SHAPES = [
    (1, None),
    (1, 2),
    (7, None),
    (7, 2),
    (7, 3),
    (1000, None),
    (1000, 2),
    (1000, 10),
    (1000, 32),
    (2**20, None),
    (2**20, 1024),  # the shape on a GPU
    (2**20, 7),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def leaves_like_priorities(capacity, seed=0):
    """Over six orders of magnitude, a fifth of them 0, at least one positive; exact in float32."""
    rng = np.random.default_rng(seed)
    values = np.float32(10.0 ** rng.uniform(-4, 2, capacity))
    values[rng.random(capacity) < 0.2] = 0
    values[rng.integers(capacity)] = 1
    return values


def filled(capacity, fanout=None, seed=0, device="cpu"):
    values = leaves_like_priorities(capacity, seed)
    tree = SumTree(capacity, fanout=fanout, device=device)
    tree.set(torch.arange(capacity, device=device), torch.tensor(values, device=device))
    return tree, values.astype(np.float64)


# --- checkers ------------------------------------------------------------------------------------


def chi_square_limit(freedom):
    """Exceeded by chance once in a million (Wilson and Hilferty 1931)."""
    z = 4.753424
    return freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3


def chi_square_fault(counts, probability):
    """Whether counts are unlikely draws from the probabilities."""
    if counts[probability == 0].any():
        return "something impossible was drawn"
    expected = counts.sum() * probability
    rare = expected < 20  # pooled, for the test needs some draws in every bin
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 20:  # too few even so: with the largest
        largest = expected[:-1].argmax() if len(expected) > 1 else 0
        counts[largest] += counts[-1] * (len(expected) > 1)
        expected[largest] += expected[-1] * (len(expected) > 1)
        counts, expected = counts[:-1], expected[:-1]
    if len(expected) < 2:
        return None
    statistic = ((counts - expected) ** 2 / expected).sum()
    limit = chi_square_limit(len(expected) - 1)
    return None if statistic < limit else f"chi-square {statistic:.0f} exceeds {limit:.0f}"


def draw(tree, draws, seed, uniforms=None, lot=None):
    """Indices [draws] of unstratified draws, and the values that came with them."""
    device = tree.total.device
    lot = lot or max(1, 2**23 // tree.fanout // tree.levels)
    generator = torch.Generator(device).manual_seed(seed)
    indices, values = [], []
    for start in range(0, draws, lot):
        size = min(lot, draws - start)
        uniform = torch.rand((tree.levels, size), generator=generator, device=device)
        index, value = tree.sample(uniforms(uniform) if uniforms else uniform)
        indices.append(index.cpu().numpy())
        values.append(value.cpu().numpy())
    return np.concatenate(indices), np.concatenate(values)


def frequency_fault(tree, leaves, draws, seed=0, uniforms=None):
    """Whether leaves are drawn in proportion to their values, a float64 array."""
    index, value = draw(tree, draws, seed, uniforms)
    if index.min() < 0 or index.max() >= len(leaves):
        return "an index out of range"
    if (value != leaves[index]).any():
        return "a value that is not the leaf's"
    probability = leaves / leaves.sum()
    if len(leaves) <= 4096:
        return chi_square_fault(np.bincount(index, minlength=len(leaves)), probability)
    # Too many leaves for a bin each: blocks of neighbours, then places within the blocks.
    for bins in (np.arange(len(leaves)) // 1024, np.arange(len(leaves)) % 1024):
        counts = np.bincount(bins[index], minlength=1024)
        fault = chi_square_fault(counts, np.bincount(bins, probability, minlength=1024))
        if fault:
            return fault
    return "a zero leaf was drawn" if (leaves[index] == 0).any() else None


def zero_fault(tree, leaves, draws, seed=0):
    """Whether a leaf of value 0 is ever drawn, with many uniforms at the edges of [0, 1]."""
    edges = torch.tensor([0.0, 2.0**-24, 0.5, ALMOST_ONE, 1.0])

    def uniforms(uniform):
        which = (uniform * 2**20).long() % 10  # half of them
        return torch.where(which < 5, edges[which.clamp(max=4)], uniform)

    index, value = draw(tree, draws, seed, uniforms)
    if not (value > 0).all() or not (leaves[index] > 0).all():
        return "a zero leaf was drawn"
    return None


def stratum_fault(tree, leaves, batch, seed=0):
    """Whether stratified draws hit every entry of the top level as often as its strata say."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand((tree.levels, batch), generator=generator)
    uniform[0] = (uniform[0] + torch.arange(batch)) / batch
    index, _ = tree.sample(uniform)
    below = tree.fanout ** (tree.levels - 1)
    block = np.arange(len(leaves)) // below
    counts = np.bincount(block[index.numpy()], minlength=block[-1] + 1)
    # An entry covers [begin, end) in units of strata: at least those wholly inside, at most those
    # it touches. Float32 sums may shift a border by a little.
    end = np.cumsum(np.bincount(block, leaves)) / leaves.sum() * batch
    begin = np.append(0, end[:-1])
    slack = 1e-6 * batch
    least = np.maximum(0, np.floor(end - slack) - np.ceil(begin + slack))
    most = np.ceil(end + slack) - np.floor(begin - slack)
    if ((counts < least) | (counts > most)).any():
        return "an entry of the top level has too many or too few strata"
    return None


def drift_fault(tree, leaves):
    """Whether leaves differ at all, or any sum differs by more than float32's rounding."""
    if not np.array_equal(tree.leaves.numpy(), leaves.astype(np.float32)):
        return "a leaf differs"
    exact = leaves
    for level in tree._levels[1:]:
        exact = np.pad(exact, (0, -len(exact) % tree.fanout)).reshape(-1, tree.fanout).sum(1)
        got = level.numpy().astype(np.float64)[: len(exact)]
        if (np.abs(got - exact) > 2e-6 * exact).any():
            return "a sum has drifted"
    if abs(tree.total.item() - leaves.sum()) > 2e-6 * leaves.sum():
        return "the total has drifted"
    return None


def update_randomly(tree, leaves, updates, batch, seed=0):
    """Batches with duplicates and zeros; ``leaves`` (float64) follows by a loop."""
    rng = np.random.default_rng(seed)
    for _ in range(0, updates, batch):
        index = rng.integers(0, len(leaves), batch)
        value = np.float32(10.0 ** rng.uniform(-5, 3, batch)) * (rng.random(batch) > 0.2)
        tree.set(torch.tensor(index), torch.tensor(value, dtype=torch.float32))
        largest = {}
        for i, v in zip(index.tolist(), value.tolist(), strict=True):
            largest[i] = max(v, largest.get(i, 0.0))
        for i, v in largest.items():
            leaves[i] = v


# --- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capacity", "fanout", "device", "expected"),
    [
        (1, None, "cpu", (32, [1])),
        (1000, None, "cpu", (32, [1000])),
        (1024, None, "cpu", (32, [1024])),
        (1025, None, "cpu", (32, [1056, 33])),
        (2**20, None, "cpu", (32, [2**20, 2**15, 2**10])),
        (2**20, None, "cuda", (1024, [2**20, 1024])),
        (2**20 + 1, None, "cuda", (2048, [2**20 + 2048, 513])),
        (1, None, "cuda", (32, [1])),
        (7, 2, "cpu", (2, [8, 4, 2])),
        (7, 3, "cpu", (3, [9, 3])),
        (8, 8, "cpu", (8, [8])),
    ],
)
def test_level_sizes(capacity, fanout, device, expected):
    assert level_sizes(capacity, fanout, device) == expected


@given(capacity=st.integers(1, 10**7), fanout=st.one_of(st.none(), st.integers(2, 5000)))
def test_every_level_holds_whole_groups_of_the_one_below(capacity, fanout):
    chosen, sizes = level_sizes(capacity, fanout, "cpu")
    assert sizes[0] >= capacity
    for below, above in pairwise(sizes):
        assert below % chosen == 0 and below // chosen <= above < below // chosen + chosen


@pytest.mark.parametrize(("capacity", "fanout"), [(0, None), (-1, None), (5, 1), (5, 0)])
def test_impossible_shapes_are_refused(capacity, fanout):
    with pytest.raises(ValueError, match="is out of range"):
        SumTree(capacity, fanout=fanout)


def test_a_new_tree_is_empty():
    tree = SumTree(5000)
    assert tree.total.item() == 0 and tree.total.shape == ()
    assert not tree.leaves.any() and tree.leaves.shape == (5000,)
    tree.check_valid()


def test_nbytes_counts_all_levels():
    assert SumTree(2**20).nbytes() == 4 * (2**20 + 2**15 + 2**10)


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("capacity", "fanout"), SHAPES)
def test_set_get_and_total(capacity, fanout):
    tree, leaves = filled(capacity, fanout)
    assert np.array_equal(tree.get(torch.arange(capacity)).numpy(), leaves)
    assert tree.total.item() == pytest.approx(leaves.sum(), rel=2e-6)
    assert drift_fault(tree, leaves) is None
    tree.check_valid()


def duplicate_fault(tree):
    """Whether the largest of duplicates wins, whatever their order and what was there before."""
    tree.set(torch.tensor([3, 4]), torch.tensor([100.0, 100.0]))
    for order in ([1.0, 9.0, 5.0], [9.0, 5.0, 1.0], [1.0, 5.0, 9.0]):
        tree.set(torch.tensor([3, 3, 3, 4, 4]), torch.tensor([*order, 0.0, 0.0]))
        if tree.get(torch.tensor([3, 4])).tolist() != [9.0, 0.0]:
            return "not the largest"
        if tree.total.item() != 9.0:
            return "the total is not the leaves' sum"
    return None


@pytest.mark.parametrize("capacity", [7, 5000])
def test_of_duplicates_the_largest_wins(capacity):
    assert duplicate_fault(SumTree(capacity)) is None


def test_an_update_can_lower_a_leaf():
    tree = SumTree(3)
    tree.set(torch.tensor([0]), torch.tensor([5.0]))
    tree.set(torch.tensor([0]), torch.tensor([2.0]))
    assert tree.get(torch.tensor([0])).item() == tree.total.item() == 2.0


@pytest.mark.parametrize(("updates", "batch"), [(10_000, 1), (90_000, 64)])
def test_updates_do_not_drift(updates, batch):
    tree, leaves = filled(5000)
    update_randomly(tree, leaves, updates, batch)
    assert drift_fault(tree, leaves) is None
    tree.check_valid()


@pytest.mark.parametrize(("capacity", "fanout"), [(1, None), (7, 2), (1000, 10), (2**20, 1024)])
def test_batched_updates_do_not_drift_in_any_shape(capacity, fanout):
    tree, leaves = filled(capacity, fanout)
    update_randomly(tree, leaves, 2000, 32)
    assert drift_fault(tree, leaves) is None


@given(data=st.data(), capacity=st.integers(1, 200), fanout=st.one_of(st.none(), st.integers(2, 9)))
@settings(max_examples=60, deadline=None)
def test_set_property(data, capacity, fanout):
    tree, leaves = SumTree(capacity, fanout=fanout), [0.0] * capacity
    value = st.one_of(st.just(0.0), st.floats(2.0**-20, 2.0**20, width=32))
    write = st.lists(st.tuples(st.integers(0, capacity - 1), value), min_size=1, max_size=20)
    for pairs in data.draw(st.lists(write, max_size=5)):
        tree.set(torch.tensor([i for i, _ in pairs]), torch.tensor([v for _, v in pairs]))
        for i in {i for i, _ in pairs}:
            leaves[i] = max(v for j, v in pairs if j == i)
    assert drift_fault(tree, np.array(leaves)) is None
    if sum(leaves) > 0:
        index, drawn = tree.sample(torch.rand(tree.levels, 20))
        assert all(leaves[i] == v > 0 for i, v in zip(index.tolist(), drawn.tolist(), strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_check_valid_notices_bad_values(bad):
    tree, leaves = filled(100)
    with pytest.raises(FastDQNError, match=f"value holds {bad}"):
        tree.set(torch.tensor([2, 3]), torch.tensor([1.0, bad]))
    tree.check_valid()
    assert tree.get(torch.tensor([2])).item() == pytest.approx(leaves[2]), "nothing is written"
    tree.write(torch.tensor([3]), torch.tensor([bad]))
    with pytest.raises(AssertionError, match=r"non-finite|negative"):
        tree.check_valid()


def test_check_valid_notices_a_wrong_sum_and_padding():
    tree, _ = filled(5000)
    tree._levels[1][0] += 1
    with pytest.raises(AssertionError, match="level 1 is not the sum"):
        tree.check_valid()
    tree, _ = filled(5000)
    tree._levels[0][5000] = 1
    with pytest.raises(AssertionError, match="padding"):
        tree.check_valid()


# --- drawing -------------------------------------------------------------------------------------


def test_sample_by_hand():
    tree = SumTree(5)  # one level: 0, 1, 0, 2, 1 of 4
    tree.set(torch.arange(5), torch.tensor([0.0, 1.0, 0.0, 2.0, 1.0]))
    uniform = torch.tensor([[0.0, 0.24, 0.25, 0.5, 0.74, 0.75, 0.99]])
    index, value = tree.sample(uniform)
    assert index.tolist() == [1, 1, 3, 3, 3, 4, 4]
    assert value.tolist() == [1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0]
    assert index.dtype == torch.int64 and value.dtype == torch.float32


def test_sample_by_hand_over_two_levels():
    tree = SumTree(4, fanout=2)  # (1, 3) and (0, 4): tops 4 and 4
    tree.set(torch.arange(4), torch.tensor([1.0, 3.0, 0.0, 4.0]))
    top = torch.tensor([0.0, 0.49, 0.49, 0.5, 0.99])
    inside = torch.tensor([0.0, 0.24, 0.25, 0.0, 0.99])
    assert tree.sample(torch.stack((top, inside)))[0].tolist() == [0, 0, 1, 3, 3]


def test_sample_is_pure():
    tree, _ = filled(5000)
    uniform = torch.rand(tree.levels, 64)
    before, state = uniform.clone(), torch.get_rng_state()
    one, two = tree.sample(uniform), tree.sample(uniform)
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert torch.equal(uniform, before) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("capacity", "fanout"), SHAPES)
def test_frequencies(capacity, fanout):
    tree, leaves = filled(capacity, fanout)
    assert frequency_fault(tree, leaves, 100_000) is None


@pytest.mark.gpu
@pytest.mark.parametrize("capacity", [1, 7, 1000, 2**20])
def test_frequencies_on_cuda(capacity):
    tree, leaves = filled(capacity, device="cuda")
    assert frequency_fault(tree, leaves, 10**6) is None


@pytest.mark.slow
@pytest.mark.parametrize(("capacity", "fanout"), SHAPES)
def test_frequencies_of_many_draws(capacity, fanout):
    tree, leaves = filled(capacity, fanout)
    assert frequency_fault(tree, leaves, 5_000_000) is None


def test_equal_leaves_are_drawn_equally():
    tree = SumTree(2**20)
    tree.set(torch.arange(2**20), torch.ones(2**20))
    assert frequency_fault(tree, np.ones(2**20), 100_000) is None


@pytest.mark.parametrize(("capacity", "fanout"), SHAPES)
@pytest.mark.parametrize("batch", [1, 32, 1000])
def test_strata(capacity, fanout, batch):
    tree, leaves = filled(capacity, fanout)
    for seed in range(5):
        assert stratum_fault(tree, leaves, batch, seed) is None


def test_stratified_draws_are_not_biased():
    tree, leaves = filled(3000)
    below = torch.arange(256)

    def stratify(uniform):
        lots = uniform[0].view(-1, 256)
        return torch.cat((((lots + below) / 256).view(1, -1), uniform[1:]))

    index, _ = draw(tree, 256 * 1000, seed=0, uniforms=stratify, lot=256 * 40)
    # Strata only make counts more even than independent draws are.
    assert chi_square_fault(np.bincount(index, minlength=3000), leaves / leaves.sum()) is None


def sparse(capacity=5000, seed=1):
    """Runs of zeros at the start, the end and between, of magnitudes that round each other away."""
    rng = np.random.default_rng(seed)
    leaves = np.float32(10.0 ** rng.uniform(-6, 3, capacity))
    leaves[rng.random(capacity) < 0.5] = 0
    leaves[:100] = leaves[-100:] = leaves[1000:1100] = 0
    return leaves


@pytest.mark.parametrize("fanout", [None, 8, 71])
@pytest.mark.parametrize(
    "draws",
    [400_000, pytest.param(10_000_000, marks=pytest.mark.slow)],
    ids=["some", "ten-million"],
)
def test_zero_leaves_are_never_drawn(fanout, draws):
    leaves = sparse()
    tree = SumTree(len(leaves), fanout=fanout)
    tree.set(torch.arange(len(leaves)), torch.tensor(leaves))
    assert zero_fault(tree, leaves, draws) is None


@pytest.mark.parametrize("position", [0, 1, 31, 32, 2500, 4998, 4999])
def test_the_only_positive_leaf_is_always_drawn(position):
    tree = SumTree(5000)
    tree.set(torch.tensor([position]), torch.tensor([3.0]))
    uniform = torch.rand(tree.levels, 1000)
    uniform[:, :3] = torch.tensor([0.0, ALMOST_ONE, 1.0])
    index, value = tree.sample(uniform)
    assert (index == position).all() and (value == 3.0).all()


@given(total=st.floats(2.0**-100, 2.0**100, width=32))
def test_the_largest_uniform_stays_below_every_total(total):
    tree = SumTree(3)
    tree.set(torch.tensor([0, 1]), torch.tensor([total, 0.0]))
    for uniform in (0.0, ALMOST_ONE, 1.0):
        assert tree.sample(torch.tensor([[uniform]]))[0].tolist() == [0]


# --- the pick of a GPU ---------------------------------------------------------------------------


def pick_as_a_gpu(values, uniform):
    """`_pick` without its branch for the CPU."""
    cumulative = values.cumsum(dim=-1)
    return sum_tree_torch._pick_positive(values, cumulative, uniform * cumulative[..., -1:])


def test_both_picks_agree():
    g = torch.Generator().manual_seed(0)
    for length in (1, 2, 33, 1024):
        values = torch.rand((200, length), generator=g) * (
            torch.rand((200, length), generator=g) > 0.4
        )
        values[:, length // 2] = 1.0
        uniform = torch.rand((200, 1), generator=g)
        uniform[:2, 0] = torch.tensor([0.0, ALMOST_ONE])
        assert torch.equal(pick_as_a_gpu(values, uniform), sum_tree_torch._pick(values, uniform))
        many = torch.rand(500, generator=g)
        assert torch.equal(pick_as_a_gpu(values[0], many), sum_tree_torch._pick(values[0], many))


def test_a_cumulative_sum_that_rises_at_a_zero_does_not_draw_it():
    up = 1.0 + 2.0**-23
    values = torch.tensor([1.0, 0.0, 1.0, 0.0])
    cumulative = torch.tensor([1.0, up, 2.0, 2.0 + 2.0**-22])
    thresholds = torch.tensor([1.0, 2.0])  # just where the zeros seem to be
    naive = torch.searchsorted(cumulative, thresholds, right=True)
    assert naive.tolist() == [1, 3]  # what would go wrong
    # Nothing positive lies above the second: any positive entry will do.
    picked = sum_tree_torch._pick_positive(values, cumulative, thresholds)
    assert picked[0] == 2 and (values[picked] > 0).all()
    rows = sum_tree_torch._pick_positive(
        values.expand(2, 4), cumulative.expand(2, 4), thresholds.unsqueeze(1)
    )
    assert rows.shape == (2, 1) and rows[0, 0] == 2 and (values[rows] > 0).all()


def assert_a_whole_tree_draws_as_it_should():
    leaves = sparse()
    tree = SumTree(len(leaves), fanout=71)
    tree.set(torch.arange(len(leaves)), torch.tensor(leaves))
    assert zero_fault(tree, leaves, 100_000) is None
    assert frequency_fault(tree, leaves.astype(np.float64), 100_000) is None


def test_a_whole_tree_with_the_pick_of_a_gpu(monkeypatch):
    noise = torch.Generator().manual_seed(0)

    def pick(values, uniform):
        cumulative = values.cumsum(dim=-1)
        # Sums made in parallel are off by a rounding, up or down, each its own.
        off = torch.randint(-2, 3, cumulative.shape, generator=noise) * 2.0**-24
        cumulative = cumulative * (1 + off)
        return sum_tree_torch._pick_positive(values, cumulative, uniform * cumulative[..., -1:])

    monkeypatch.setattr(sum_tree_torch, "_pick", pick)
    assert_a_whole_tree_draws_as_it_should()


def test_sums_by_a_product_where_cumsum_is_refused():
    """torch refuses cumsum on CUDA where deterministic algorithms are asked for."""
    g = torch.Generator().manual_seed(0)
    for shape in ((1,), (7,), (1024,), (33, 64)):
        values = torch.rand(shape, generator=g) * (torch.rand(shape, generator=g) < 0.6)
        exact = values.double().cumsum(-1)
        sums = sum_tree_torch._sums_by_product(values)
        assert sums.dtype == torch.float32
        torch.testing.assert_close(sums.double(), exact, rtol=2.0**-23, atol=0)


def test_a_whole_tree_with_sums_by_a_product(monkeypatch):
    def pick(values, uniform):
        cumulative = sum_tree_torch._sums_by_product(values)
        return sum_tree_torch._pick_positive(values, cumulative, uniform * cumulative[..., -1:])

    monkeypatch.setattr(sum_tree_torch, "_pick", pick)
    assert_a_whole_tree_draws_as_it_should()


# --- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("capacity", "fanout"), [(1, None), (7, 2), (5000, None)])
def test_state_round_trip(capacity, fanout):
    tree, leaves = filled(capacity, fanout)
    update_randomly(tree, leaves, 100, 10)
    state = copy.deepcopy(tree.state_dict())
    other = SumTree(capacity, fanout=fanout)
    addresses = [level.data_ptr() for level in other._levels]
    other.load_state_dict(state)
    assert [level.data_ptr() for level in other._levels] == addresses  # in place: graphs hold them
    for one, two in zip(tree._levels, other._levels, strict=True):
        assert torch.equal(one, two)
    uniform = torch.rand(tree.levels, 100)
    assert torch.equal(tree.sample(uniform)[0], other.sample(uniform)[0])


@pytest.mark.parametrize(
    ("saved", "own"),
    [((5000, None), (6000, None)), ((5000, 71), (6000, None)), ((1000, None), (5000, None))],
)
def test_state_of_another_shape_is_refused_and_changes_nothing(saved, own):
    tree, _ = filled(*own, seed=5)
    before = [level.clone() for level in tree._levels]
    with pytest.raises(CheckpointError, match=f"has {saved[0]} leaves, this one {own[0]}"):
        tree.load_state_dict(filled(*saved)[0].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(before, tree._levels, strict=True))


# --- planted faults: each checker notices one ----------------------------------------------------


def test_planted_search_from_the_left(monkeypatch):
    def pick(values, uniform):
        cumulative = values.cumsum(dim=-1)
        return torch.searchsorted(cumulative, uniform * cumulative[..., -1:], right=False)

    monkeypatch.setattr(sum_tree_torch, "_pick", pick)
    leaves = sparse()
    tree = SumTree(len(leaves), compiled=False)
    tree.set(torch.arange(len(leaves)), torch.tensor(leaves))
    assert zero_fault(tree, leaves, 10_000) == "a zero leaf was drawn"


def test_planted_one_uniform_for_all_levels():
    tree, leaves = filled(2**20)
    fault = frequency_fault(tree, leaves, 100_000, uniforms=lambda u: u[:1].expand_as(u))
    assert fault is not None and "chi-square" in fault


def test_planted_bias_of_three_per_cent():
    tree, leaves = filled(7)
    leaves[leaves.argmax()] *= 1.03
    tree.set(torch.arange(7), torch.tensor(leaves, dtype=torch.float32))
    leaves = filled(7)[1]
    index, _ = draw(tree, 200_000, seed=0)
    assert chi_square_fault(np.bincount(index, minlength=7), leaves / leaves.sum()) is not None


def test_planted_strata_out_of_place(monkeypatch):
    tree, leaves = filled(1000)
    sample = tree.sample
    monkeypatch.setattr(tree, "sample", lambda uniform: sample(torch.rand(uniform.shape)))
    assert stratum_fault(tree, leaves, 1000) is not None


class DeltaTree(SumTree):
    """Propagates differences, as most sum trees do."""

    def set(self, index, value):
        delta = value - self.get(index)
        self._levels[0].index_copy_(0, index, value)
        for above in self._levels[1:]:
            index = index // self.fanout
            above.index_add_(0, index, delta)


def test_planted_propagation_of_differences():
    tree, leaves = DeltaTree(5000), np.zeros(5000)
    rng = random.Random(0)
    for _ in range(3000):
        i = rng.randrange(5000)
        v = float(np.float32(10.0 ** rng.uniform(-5, 3)))
        tree.set(torch.tensor([i]), torch.tensor([v]))
        leaves[i] = v
    for i in np.flatnonzero(leaves > 1e-3).tolist():
        tree.set(torch.tensor([i]), torch.tensor([0.0]))
        leaves[i] = 0.0
    assert "drifted" in drift_fault(tree, leaves)
    assert duplicate_fault(DeltaTree(5000)) is not None


LOOP_FAULTS = {
    "search from the left": ("inside += passed <= threshold", "inside += passed < threshold"),
    "of duplicates the last": ("if not value[i] <= tree[index[i]]:", "if True:"),
    "half the sums": ("range(1, len(starts) - 1)", "range(1, len(starts) - 2)"),
    "groups of the level below": ("leaf >> (shift * level)", "leaf >> shift"),
}


def loop_fault():
    """What is wrong with the trees, by three of the checkers."""
    leaves = sparse()
    tree = SumTree(len(leaves), fanout=4)
    tree.set(torch.arange(len(leaves)), torch.tensor(leaves))
    return (
        zero_fault(tree, leaves, 10_000)
        or duplicate_fault(SumTree(100, fanout=4))
        or drift_fault(tree, np.asarray(leaves, dtype=np.float64))
    )


@pytest.mark.parametrize("fault", LOOP_FAULTS)
def test_planted_in_a_loop(fault, monkeypatch, both_ways):
    if both_ways == "torch":
        pytest.skip("has no loops")
    for planted in ((), LOOP_FAULTS[fault]):
        found = bool(planted)
        interpret(monkeypatch, *planted)
        try:
            assert (loop_fault() is not None) is found
        except IndexError:  # the fault led outside an array
            assert found


@pytest.mark.parametrize("outside", [-1, 100, 2**40])
def test_an_index_that_is_no_leaf_is_refused(outside):
    tree, leaves = filled(100)
    with pytest.raises(FastDQNError, match="use numbers from 0 to 99"):
        tree.set(torch.tensor([3, outside]), torch.tensor([1.0, 1.0]))
    tree.check_valid()
    assert tree.get(torch.tensor([3])).item() == pytest.approx(leaves[3])
    if tree.compiled:
        with pytest.raises(FastDQNError, match="use numbers from 0 to 99"):
            tree.write(torch.tensor([3, outside]), torch.tensor([1.0, 1.0]))


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made)), saved_by_torch],  # noqa: S301
)
def test_a_copy_of_a_tree_is_its_own(copied):
    tree, _ = filled(100)
    twin = copied(tree)
    before = twin.total.item()
    tree.set(torch.tensor([3]), torch.tensor([1e3]))
    twin.check_valid()
    assert twin.total.item() == before
    twin.set(torch.tensor([3]), torch.tensor([2e3]))
    assert twin.get(torch.tensor([3])).item() == 2e3
    assert twin.leaves[3] == 2e3 and twin.compiled == tree.compiled
    twin.check_valid()


def test_what_is_copied_with_a_tree_goes_on_sharing_its_memory():
    tree, _ = filled(100)
    twin, leaves = copy.deepcopy((tree, tree.leaves))
    twin.set(torch.tensor([3]), torch.tensor([2e3]))
    assert leaves[3] == 2e3


def test_a_tree_of_another_shape_is_rebuilt_from_the_leaves():
    """As when a run goes on from a CPU to a GPU, whose trees are wider."""
    tree, _ = filled(1000, 32)
    wide = SumTree(1000, fanout=512)
    wide.load_state_dict(tree.state_dict())
    assert torch.equal(wide.leaves, tree.leaves)
    wide.check_valid()
    assert wide.total.item() == pytest.approx(tree.total.item(), rel=1e-5)
