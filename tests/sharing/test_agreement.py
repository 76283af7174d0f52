"""Whether an export agrees: counted as one would by hand, in batches of any size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdqn.sharing.agreement import compare


def oracle(expected, found):
    """Row by row, in Python's floats."""
    actions = values = 0
    largest = 0.0
    for ours, theirs in zip(expected, found, strict=True):
        differences = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
        values += all(d <= 1e-4 * max(1.0, abs(q)) for d, q in zip(differences, ours, strict=True))
        best = max(ours)
        chosen = ours[theirs.index(max(theirs))]
        actions += chosen >= best - 1e-4 * max(1.0, abs(best))
        largest = max(largest, *differences)
    return len(expected), actions, values, largest


def compared(expected, found):
    """Of two tables of Q, looked up by the number of the observation."""
    rows = torch.arange(len(expected))
    ours, theirs = torch.tensor(expected), torch.tensor(found)
    result = compare(lambda i: ours[i], lambda arrays: theirs[arrays[0]], (rows,))
    return (result.observations, result.same_actions, result.same_values,
            result.largest_difference), result.holds  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "found", "counts", "holds"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], (1, 1, 1, 0.0), True),
        ([[1.0, 2.0]], [[2.0, 1.0]], (1, 0, 0, 1.0), False),
        ([[1.0, 2.0], [3.0, 0.0]], [[1.0, 2.5], [3.0, 0.0]], (2, 2, 1, 0.5), False),
        ([[1.0, 1.0]], [[1.0, 1.00005]], (1, 1, 1, 4.9949e-05), True),  # a tie
        ([[1000.0, 0.0]], [[1000.0625, 0.0]], (1, 1, 1, 0.0625), True),  # 1e-4 of 1,000
        ([[0.0, -1000.0]], [[0.0625, -1000.0]], (1, 1, 0, 0.0625), False),
    ],
)
def test_by_hand(expected, found, counts, holds):
    result, agrees = compared(expected, found)
    assert result == pytest.approx(counts, rel=1e-3)
    assert agrees is holds


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 350), st.integers(1, 5), st.integers(0, 2**31), st.sampled_from([0, 1e-5, 1]))
def test_as_row_by_row(rows, actions, seed, noise):
    generator = torch.Generator().manual_seed(seed)
    expected = torch.randn(rows, actions, generator=generator)
    found = expected + noise * torch.randn(rows, actions, generator=generator)
    result, _ = compared(expected.tolist(), found.tolist())
    assert result == pytest.approx(oracle(expected.tolist(), found.tolist()))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_number_does_not_agree(wrong):
    for expected, found in (([[1.0]], [[wrong]]), ([[wrong]], [[1.0]]), ([[wrong]], [[wrong]])):
        assert not compared(expected, found)[1]


def test_other_shapes_and_dtypes_do_not_agree():
    x = (torch.arange(3),)

    def ours(i):
        return torch.zeros(len(i), 2)

    assert not compare(ours, lambda a: torch.zeros(len(a[0]), 3), x).holds
    assert not compare(ours, lambda a: torch.zeros(len(a[0]), 2).double(), x).holds


def test_one_observation_comes_alone_and_none_is_left_out():
    sizes = []

    def ours(i):
        sizes.append(len(i))
        return torch.zeros(len(i), 2)

    assert compare(ours, lambda a: torch.zeros(len(a[0]), 2), (torch.arange(250),)).holds
    assert sizes == [1, 100, 100, 49]
