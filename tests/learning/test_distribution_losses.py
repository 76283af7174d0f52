"""Losses of distributions against the formulas of the papers, sample by sample in Python floats."""

import math
import random

import pytest
import torch
from helpers import menu_oracle
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastdqn.errors import ConfigError
from fastdqn.learning.distribution_losses import (
    categorical_target,
    cross_entropy_loss,
    quantile_huber_loss,
)
from fastdqn.learning.losses import huber_loss
from fastdqn.learning.sorted_quantile_huber import pays
from fastdqn.networks.values import midpoints

CPU = torch.device("cpu")


def doubles(values, **options):
    return torch.tensor(values, dtype=torch.float64, **options)


def target_of(probabilities, reward, discount, low, high):
    """One sample."""
    found = categorical_target(
        doubles([probabilities]), doubles([reward]), doubles([discount]), low, high
    )
    return found[0].tolist()


def random_probabilities(rng, count):
    raw = [rng.random() ** 3 for _ in range(count)]
    return [p / math.fsum(raw) for p in raw]


# --- the projection ------------------------------------------------------------------------------

P = [0.5, 0.25, 0.25]  # at -1, 0 and 1


@pytest.mark.parametrize(
    ("reward", "discount", "expected"),
    [
        (0.0, 1.0, P),
        (0.5, 1.0, [0.25, 0.375, 0.375]),  # -0.5, 0.5, and 1.5, which is clipped to 1
        (1.0, 1.0, [0.0, 0.5, 0.5]),
        (-1.0, 1.0, [0.75, 0.25, 0.0]),
        (0.0, 0.5, [0.25, 0.625, 0.125]),  # -0.5, 0, 0.5
        (0.25, 0.5, [0.125, 0.625, 0.25]),  # -0.25, 0.25, 0.75
        (7.0, 0.9, [0.0, 0.0, 1.0]),
        (-7.0, 0.9, [1.0, 0.0, 0.0]),
    ],
)
def test_projection_by_hand(reward, discount, expected):
    assert target_of(P, reward, discount, -1.0, 1.0) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (0.0, [0.0, 0.0, 1.0, 0.0, 0.0]),  # on an atom
        (-4.0, [1.0, 0.0, 0.0, 0.0, 0.0]),
        (4.0, [0.0, 0.0, 0.0, 0.0, 1.0]),
        (0.5, [0.0, 0.0, 0.75, 0.25, 0.0]),  # between two, nearer to the first
        (-3.5, [0.75, 0.25, 0.0, 0.0, 0.0]),
        (5.0, [0.0, 0.0, 0.0, 0.0, 1.0]),  # outside
        (-99.0, [1.0, 0.0, 0.0, 0.0, 0.0]),
        (math.inf, [0.0, 0.0, 0.0, 0.0, 1.0]),
    ],
)
def test_where_the_episode_ended_all_mass_is_at_the_reward(reward, expected):
    # Exactly: atoms at -4, -2, 0, 2, 4; probabilities that add up to 1 in float32.
    p = torch.tensor([[0.125, 0.125, 0.25, 0.25, 0.25]])
    found = categorical_target(p, torch.tensor([reward]), torch.tensor([0.0]), -4.0, 4.0)
    assert found.tolist() == [expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_shift_by_whole_atoms_moves_mass_exactly(dtype):
    p = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25]], dtype=dtype)
    one = torch.ones(1, dtype=dtype)
    for shift in range(-3, 4):
        moved = [0.0] * 5
        for i, mass in enumerate(p[0].tolist()):
            moved[min(max(i + shift, 0), 4)] += mass
        found = categorical_target(p, one * shift * 0.5, one, -1.0, 1.0)
        assert found[0].tolist() == pytest.approx(moved, abs=1e-7 if dtype.itemsize == 4 else 1e-15)
        inside = slice(max(0, shift) + 1, 4 + min(0, shift))
        assert torch.equal(found[0, inside], p[0, inside.start - shift : inside.stop - shift])


# Places of atoms that are integers up to rounding are those at which floor and ceiling can be the
# same, be one apart, or leave the range; the usual support has a step of 0.4.
steps = st.integers(-30, 30).map(lambda k: k * 0.4)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.sampled_from([2, 3, 7, 51]),
    reward=st.one_of(st.floats(-30, 30), steps),
    discount=st.sampled_from([0.0, 0.5, 0.99, 0.99**3, 1.0]),
    support=st.sampled_from([(-10.0, 10.0), (0.0, 1.0), (-3.0, 0.7), (5.0, 20.0)]),
)
@example(0, 51, 1.2, 0.0, (-10.0, 10.0))
@example(0, 51, 0.4, 1.0, (-10.0, 10.0))
def test_both_forms_of_the_projection_agree_and_keep_mass_and_mean(
    seed, count, reward, discount, support
):
    p = random_probabilities(random.Random(seed), count)
    found = target_of(p, reward, discount, *support)
    expected = menu_oracle.project(p, reward, discount, *support)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert min(found) >= 0 and math.fsum(found) == pytest.approx(1, abs=1e-12)
    moved = [reward + discount * z for z in menu_oracle.atoms(*support, count)]
    if support[0] <= min(moved) and max(moved) <= support[1]:
        mean = menu_oracle.dot(found, menu_oracle.atoms(*support, count))
        assert mean == pytest.approx(menu_oracle.dot(p, moved), abs=1e-9)


def test_samples_of_a_batch_do_not_mix():
    rng = random.Random(0)
    samples = [
        (random_probabilities(rng, 4), rng.gauss(0, 2), rng.choice([0.0, 0.9])) for _ in range(6)
    ]
    p, reward, discount = (doubles(column) for column in zip(*samples, strict=True))
    found = categorical_target(p, reward, discount, -2.0, 3.0)
    for row, sample in zip(found.tolist(), samples, strict=True):
        assert row == pytest.approx(target_of(*sample, -2.0, 3.0), abs=1e-15)


# --- cross-entropy -------------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    # softmax is (1/4, 3/4) and, of equals, (1/2, 1/2)
    logits = doubles([[0.0, math.log(3)], [5.0, 5.0], [0.0, math.log(3)]])
    target = doubles([[1.0, 0.0], [0.3, 0.7], [0.5, 0.5]])
    expected = [math.log(4), math.log(2), math.log(4) - math.log(3) / 2]
    assert cross_entropy_loss(logits, target).tolist() == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_is_finite_where_a_probability_underflows():
    logits = torch.tensor([[0.0, -400.0, 300.0]])
    loss = cross_entropy_loss(logits, torch.tensor([[0.0, 1.0, 0.0]]))
    assert loss.tolist() == [700.0]


@pytest.mark.parametrize(("batch", "count"), [(1, 2), (1, 51), (9, 4)])
def test_cross_entropy_is_the_formula(batch, count):
    rng = random.Random(count)
    logits = [[rng.gauss(0, 5) for _ in range(count)] for _ in range(batch)]
    target = [random_probabilities(rng, count) for _ in range(batch)]
    expected = [menu_oracle.cross_entropy(x, m) for x, m in zip(logits, target, strict=True)]
    found = cross_entropy_loss(doubles(logits), doubles(target))
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    # Least, and the target's entropy, where the prediction is right.
    right = cross_entropy_loss(doubles(target).log(), doubles(target))
    assert right.tolist() == pytest.approx(
        [-math.fsum(m * math.log(m) for m in row) for row in target], rel=1e-9
    )
    assert (right < found).all()


# --- quantile Huber ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantiles", "target", "fractions", "delta", "expected"),
    [
        # u = 0.5: 0.25 * 0.125
        ([0.0], [0.5], [0.25], 1.0, 0.03125),
        # u = -0.5: 0.75 * 0.125
        ([0.0], [-0.5], [0.25], 1.0, 0.09375),
        # u = 2: 0.25 * 1.5; with delta 0.5: 0.25 * 0.5 (2 - 0.25) / 0.5
        ([0.0], [2.0], [0.25], 1.0, 0.375),
        ([0.0], [2.0], [0.25], 0.5, 0.4375),
        # u = 3 within delta 4: 0.25 * 4.5 / 4
        ([1.0], [4.0], [0.25], 4.0, 0.28125),
        # Mean over the targets, sum over the quantiles:
        # tau 0.25 at 0: u = 1, -1: (0.25 * 0.5 + 0.75 * 0.5) / 2 = 0.25
        # tau 0.75 at 1: u = 0, -2: (0 + 0.25 * 1.5) / 2 = 0.1875
        ([0.0, 1.0], [1.0, -1.0], [0.25, 0.75], 1.0, 0.4375),
        # One more target: u = 3, 2: (0.5 + 0.25 * 2.5) / 3 + (0.375 + 0.75 * 1.5) / 3
        ([0.0, 1.0], [1.0, -1.0, 3.0], [0.25, 0.75], 1.0, 0.875),
    ],
)
def test_quantile_huber_by_hand(quantiles, target, fractions, delta, expected):
    for shape in (fractions, [fractions]):
        loss = quantile_huber_loss(doubles([quantiles]), doubles([target]), doubles(shape), delta)
        assert loss.tolist() == [pytest.approx(expected, rel=1e-15)]
    assert menu_oracle.quantile_huber(quantiles, target, fractions, delta) == expected


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 4),
    count=st.integers(1, 6),
    others=st.integers(1, 6),
    delta=st.sampled_from([0.25, 1.0, 3.0]),
    per_row=st.booleans(),
    ties=st.booleans(),
)
@example(0, 1, 3, 5, 1.0, True, False)
def test_quantile_huber_is_the_formula(seed, batch, count, others, delta, per_row, ties):
    rng = random.Random(seed)

    def table(width):
        rows = [[rng.gauss(0, 2) for _ in range(width)] for _ in range(batch)]
        return [[round(x) for x in row] for row in rows] if ties else rows

    quantiles, target = table(count), table(others)
    fractions = [[rng.random() for _ in range(count)] for _ in range(batch if per_row else 1)]
    found = quantile_huber_loss(
        doubles(quantiles), doubles(target), doubles(fractions if per_row else fractions[0]), delta
    )
    expected = [
        menu_oracle.quantile_huber(quantiles[b], target[b], fractions[b if per_row else 0], delta)
        for b in range(batch)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_with_many_pairs_it_is_the_formula_too():
    rng = random.Random(3)
    quantiles = [[rng.gauss(0, 2) for _ in range(90)] for _ in range(4)]
    target = [[rng.gauss(0, 2) for _ in range(600)] for _ in range(4)]
    assert pays(doubles(quantiles), doubles(target))
    found = quantile_huber_loss(doubles(quantiles), doubles(target), midpoints(90, CPU), 0.7)
    expected = [
        menu_oracle.quantile_huber(own, others, menu_oracle.midpoints(90), 0.7)
        for own, others in zip(quantiles, target, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
def test_one_quantile_at_a_half_is_half_the_huber_loss(delta):
    g = torch.Generator().manual_seed(0)
    quantile, target = 2 * torch.randn((2, 20, 1), generator=g, dtype=torch.float64)
    loss = quantile_huber_loss(quantile, target, midpoints(1, CPU), delta)
    expected = huber_loss((quantile - target).squeeze(1), delta) / (2 * delta)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("delta", [1e-39, 1e-46, 1e-310])
@pytest.mark.parametrize("count", [5, 700])
def test_what_is_left_of_the_loss_without_a_parabola_is_that_of_quantiles(count, delta):
    g = torch.Generator().manual_seed(3)
    quantiles = torch.randn(2, count, generator=g).requires_grad_()
    target = torch.randn(2, count, generator=g)
    assert pays(quantiles, target) == (count == 700)
    fractions = midpoints(count, CPU)
    loss = quantile_huber_loss(quantiles, target, fractions, delta)
    error = target.unsqueeze(1) - quantiles.unsqueeze(2)
    expected = (error * (fractions.unsqueeze(1) - (error < 0).float())).mean(2).sum(1)
    torch.testing.assert_close(loss, expected)
    slopes = [torch.autograd.grad(x.sum(), quantiles)[0] for x in (loss, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-5)


def test_the_best_quantiles_are_those_of_the_target():
    # The quantile at tau of a sample of 5 is the one that tau * 5 lies before; nearly so for a
    # small delta. Taken together they show the sign of the indicator and of tau.
    target = doubles([[0.0, 1.0, 2.0, 3.0, 10.0]])
    fractions = doubles([0.1, 0.5, 0.9])

    def loss_at(theta):
        return quantile_huber_loss(doubles([theta]), target, fractions, 1e-3).item()

    best = loss_at([0.0, 2.0, 10.0])
    for i in range(3):
        for shift in (-0.5, 0.5):
            theta = [0.0, 2.0, 10.0]
            theta[i] += shift
            assert loss_at(theta) > best + 1e-3


def test_a_not_a_number_stays_in_its_sample():
    quantiles = torch.zeros(3, 2)
    quantiles[1, 0] = math.nan
    target = torch.ones(3, 4)
    loss = quantile_huber_loss(quantiles, target, midpoints(2, CPU))
    assert torch.isnan(loss).tolist() == [False, True, False]
    assert torch.isnan(cross_entropy_loss(quantiles, target[:, :2])).tolist() == [0, 1, 0]
    p = torch.full((3, 2), 0.5)
    reward = torch.tensor([0.0, math.nan, 0.0])
    found = categorical_target(p, reward, torch.ones(3), 0.0, 1.0)
    assert torch.isnan(found).any(1).tolist() == [False, True, False]


# --- gradients -----------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences():
    g = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=g, dtype=torch.float64)

    logits, target = normal(3, 5).requires_grad_(), normal(3, 5).softmax(1)
    assert torch.autograd.gradcheck(lambda x: cross_entropy_loss(x, target), (logits,))
    quantiles, others = (2 * normal(3, 4)).requires_grad_(), normal(3, 6)
    for fractions in (midpoints(4, CPU), torch.rand((3, 4), generator=g)):
        for delta in (0.4, 1.0):
            assert torch.autograd.gradcheck(
                lambda x, tau=fractions, k=delta: quantile_huber_loss(x, others, tau, k),
                (quantiles,),
            )


def test_targets_have_no_gradient():
    p = torch.full((2, 3), 1 / 3, requires_grad=True)
    one = torch.ones(2, requires_grad=True)
    assert not categorical_target(p, one, one, -1.0, 1.0).requires_grad
    prediction = torch.zeros(2, 3, requires_grad=True)
    cross_entropy_loss(prediction, p).sum().backward()
    quantile_huber_loss(prediction, p, midpoints(3, CPU)).sum().backward()
    many = torch.zeros(2, 40_000, requires_grad=True)
    assert pays(prediction, many)
    quantile_huber_loss(prediction, many, midpoints(3, CPU)).sum().backward()
    assert prediction.grad.abs().sum() > 0
    assert p.grad is None and one.grad is None and many.grad is None


# --- what does not belong together ---------------------------------------------------------------

TWO, THREE = torch.zeros(4, 2), torch.zeros(4, 3)
ONES = torch.ones(4)


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [
        (categorical_target, (THREE, ONES.unsqueeze(1), ONES, -1.0, 1.0), r"reward .* \[4, 1\]"),
        (categorical_target, (THREE, ONES, ONES[:3], -1.0, 1.0), r"discount .* \[3\]"),
        (categorical_target, (ONES, ONES, ONES, -1.0, 1.0), r"probabilities .* \[B, N\]"),
        (categorical_target, (THREE.long(), ONES, ONES, -1.0, 1.0), "probabilities is torch.int64"),
        (categorical_target, (THREE, ONES, 0.99, -1.0, 1.0), "discount is float"),
        (categorical_target, (THREE, ONES, ONES, 1.0, 1.0), r"value_min = 1\.0 must be below"),
        (categorical_target, (THREE, ONES, ONES, math.nan, 1.0), "value_min = nan is not finite"),
        (categorical_target, (THREE[:, :1], ONES, ONES, -1.0, 1.0), "two atoms or more"),
        (cross_entropy_loss, (THREE, TWO), r"target .* \[4, 2\]"),
        (cross_entropy_loss, (THREE, THREE[:1]), r"target .* \[1, 3\]"),
        (cross_entropy_loss, (THREE.unsqueeze(1), THREE), r"logits .* \[4, 1, 3\]"),
        (cross_entropy_loss, (THREE, [0.5]), "target is list"),
        (quantile_huber_loss, (THREE, TWO[:1], ONES[:3]), r"target .* \[1, 2\]"),
        (quantile_huber_loss, (THREE, TWO, ONES[:2]), r"fractions .* \[2\]"),
        (quantile_huber_loss, (THREE, TWO, TWO), r"fractions .* \[4, 2\]"),
        (quantile_huber_loss, (THREE, TWO, THREE[:1]), r"fractions .* \[1, 3\]"),
        (quantile_huber_loss, (THREE, TWO, torch.tensor(0.5)), r"fractions .* \[\]"),
        (quantile_huber_loss, (THREE, TWO, [0.5]), "fractions is list"),
        (quantile_huber_loss, (THREE, TWO, ONES[:3].long()), "fractions is torch.int64"),
        (quantile_huber_loss, (THREE, ONES, ONES[:3]), r"target .* \[4\]"),
        (quantile_huber_loss, (THREE, TWO, ONES[:3], 0.0), r"delta = 0"),
        (quantile_huber_loss, (THREE, TWO, ONES[:3], "1"), r"delta = '1'"),
        (quantile_huber_loss, (THREE, TWO, ONES[:3], math.nan), r"delta = nan"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(function, args, said):
    with pytest.raises(ConfigError, match=said) as refused:
        function(*args)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")
