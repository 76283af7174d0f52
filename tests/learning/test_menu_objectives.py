"""Objectives of the menu against slow transcriptions of the papers; what is planted is found."""

import dataclasses
import random

import pytest
import torch
from helpers import menu_oracle
from helpers.planted import plant
from torch import nn

from fastdqn.errors import ConfigError
from fastdqn.learning import (
    categorical_q_learning,
    distribution_losses,
    munchausen,
    q_learning,
    quantile_q_learning,
)
from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.learner import Learner
from fastdqn.learning.munchausen import Munchausen
from fastdqn.learning.objectives import (
    ONLINE_S,
    ONLINE_S2,
    TARGET_S,
    TARGET_S2,
    Outputs,
    Transitions,
    trains,
)
from fastdqn.learning.quantile_q_learning import CHOICE
from fastdqn.networks import values as values_module
from fastdqn.networks.make import make_network
from fastdqn.networks.values import CategoricalValues, QuantileValues, ScalarValues, midpoints
from fastdqn.types import Batch

NAMES = {
    ONLINE_S: "online_s", ONLINE_S2: "online_s2", TARGET_S: "target_s", TARGET_S2: "target_s2",
    CHOICE: "choice",
}  # fmt: skip
LOW, HIGH = -2.0, 3.0
SOFT = {"alpha": 0.9, "temperature": 0.6, "clip": -0.8, "policy": "target"}
COLD = {"alpha": 0.9, "temperature": 0.03, "clip": -1.0, "policy": "target"}


def online(soft):
    return {**soft, "policy": "online"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """An objective, what its head's numbers mean, and its transcription."""

    head: str
    options: dict

    def build(self):
        """The objective, by whatever its module says now."""
        options = {k: v for k, v in self.options.items() if k != "soft"}
        if self.head == "c51":
            return categorical_q_learning.CategoricalQLearning(self.values(6), **options)
        soft = self.options.get("soft")
        options["munchausen"] = None if soft is None else munchausen.Munchausen(**soft)
        if self.head == "scalar":
            return q_learning.QLearning(**options)
        return quantile_q_learning.QuantileQLearning(**options, implicit=self.head == "iqn")

    def values(self, atoms):
        if self.head == "c51":
            return CategoricalValues(LOW, HIGH, atoms)
        return ScalarValues() if self.head == "scalar" else QuantileValues(None)

    def oracle(self, sample):
        options = {"double": True, **self.options}
        if self.head == "c51":
            return menu_oracle.categorical(sample, **options, value_min=LOW, value_max=HIGH)
        if self.head == "scalar":
            options["delta"] = options.pop("huber_delta", 1.0)
            return menu_oracle.scalar(sample, **options)
        options["kappa"] = options.pop("huber_delta", 1.0)
        return menu_oracle.quantile(sample, **options, implicit=self.head == "iqn")


KINDS = {
    "dqn": Kind("scalar", {"double": False}),
    "dqn mse": Kind("scalar", {"double": False, "loss": "mse"}),
    "double dqn": Kind("scalar", {"huber_delta": 0.4}),
    "munchausen": Kind("scalar", {"soft": SOFT, "huber_delta": 0.7}),
    "munchausen cold": Kind("scalar", {"soft": COLD}),
    "munchausen online": Kind("scalar", {"soft": online(SOFT)}),
    "c51": Kind("c51", {"double": False}),
    "double c51": Kind("c51", {}),
    "qr": Kind("qr", {"double": False}),
    "double qr": Kind("qr", {"huber_delta": 0.4}),
    "munchausen qr": Kind("qr", {"soft": SOFT, "huber_delta": 0.4}),
    "munchausen qr online": Kind("qr", {"soft": online(SOFT)}),
    "iqn": Kind("iqn", {"double": False, "huber_delta": 0.4}),
    "double iqn": Kind("iqn", {}),
    "munchausen iqn": Kind("iqn", {"soft": SOFT, "huber_delta": 0.4}),
    "munchausen iqn cold": Kind("iqn", {"soft": COLD}),
    "munchausen iqn online": Kind("iqn", {"soft": online(SOFT)}),
}

# Batch, actions, N, N', K; and whether numbers are halves, so that equals and zeros abound.
SIZES = {
    "one": (1, 3, 4, 6, 2, False),
    "some": (7, 3, 4, 6, 2, False),
    "fewer of the target": (6, 4, 5, 3, 7, False),
    "ties": (24, 3, 4, 2, 8, True),
    "one action": (4, 1, 3, 5, 2, False),
}


def case_of(head, size, seed=0):
    """Samples in Python floats."""
    batch, actions, n, n_target, k, ties = SIZES[size]
    rng = random.Random(seed)
    if head == "c51":
        n = n_target = k = 6

    def number():
        return rng.randrange(-4, 5) / 2 if ties else rng.gauss(0, 1.5)

    def table(width):
        rows = [number() if head == "scalar" else [number() for _ in range(width)]]
        for _ in range(actions - 1):
            again = ties and rng.random() < 0.5  # an action as good as the one before
            new = number() if head == "scalar" else [number() for _ in range(width)]
            rows.append(rows[-1] if again else new)
        return rows

    return [
        {
            "action": rng.randrange(actions), "reward": number(),
            "discount": rng.choice([0.0, 0.5, 1.0] if ties else [0.0, 0.99, 0.99**3]),
            "tau": [rng.random() for _ in range(n)], "online_s": table(n), "online_s2": table(k),
            "target_s": table(k), "target_s2": table(n_target), "choice": table(k),
        }
        for _ in range(batch)
    ]  # fmt: skip


def tensors_of(samples, dtype=torch.float64):
    """What the forwards made, the transitions, and the fractions."""

    def column(name):
        return torch.tensor([sample[name] for sample in samples], dtype=dtype)

    x = torch.zeros(len(samples), 1, dtype=dtype)
    action = torch.tensor([sample["action"] for sample in samples])
    batch = Transitions(x, action, column("reward"), column("discount"), x)
    return {forward: column(name) for forward, name in NAMES.items()}, batch, column("tau")


def terms_of(kind, samples, objective=None, dtype=torch.float64, **changed):
    """Loss, TD error and priority of what it asks for, and of nothing else."""
    objective = kind.build() if objective is None else objective
    made, batch, tau = tensors_of(samples, dtype)
    made = {**made, **changed.get("made", {})}
    outputs = Outputs({f: made[f] for f in objective.forwards}, kind.values(6).q_values)
    # As UpdateDraws hands them over: every forward has its own, of its own number.
    randoms = {f: {"tau": torch.full(made[f].shape[::2], 0.123)} for f in objective.forwards}
    randoms[ONLINE_S] = {"tau": tau}
    return objective(outputs, batch, randoms if kind.head == "iqn" else {})


def compare(kind, samples, dtype=torch.float64):
    """AssertionError where a term of a sample is another than in the transcription."""
    relative = 1e-6 if dtype == torch.float64 else 2e-5
    found = terms_of(kind, samples, dtype=dtype)
    expected = [kind.oracle(sample) for sample in samples]
    for index, term in enumerate(found):
        wanted = [terms[index] for terms in expected]
        # Differences cancel: their error is measured against what they are made of.
        differs = index == 1 or kind.head == "scalar" or dtype == torch.float32
        absolute = relative * (1 + max(map(abs, wanted))) if differs else 1e-12
        assert term.dtype == dtype and term.shape == (len(samples),)
        assert term.tolist() == pytest.approx(wanted, rel=relative, abs=absolute)
    assert not found[2].requires_grad


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_every_term_is_that_of_the_paper(name, size):
    for seed in range(3):
        compare(KINDS[name], case_of(KINDS[name].head, size, seed))
    compare(KINDS[name], case_of(KINDS[name].head, size), torch.float32)


# --- faults --------------------------------------------------------------------------------------

# What the module says, what it says instead, and an objective in which that shows.
FAULTS = {
    "C51: beyond the atoms nothing is clipped": (
        distribution_losses, ".clamp(0, atoms - 1)", "", "c51"),
    "C51: discount forgotten": (
        distribution_losses, "+ discount.unsqueeze(1) * place", "+ place", "c51"),
    "C51: the first atom taken for 0": (
        distribution_losses, "(reward + (discount - 1) * value_min)", "reward", "c51"),
    "C51: the first atom not discounted": (
        distribution_losses, "(discount - 1) * value_min", "-value_min * discount", "c51"),
    "C51: transposed projection": (
        distribution_losses, "(moved.unsqueeze(1) - place.unsqueeze(1))",
        "(moved.unsqueeze(2) - place)", "c51"),
    "C51: log softmax over the batch": (
        distribution_losses, "log_softmax(dim=1)", "log_softmax(dim=0)", "c51"),
    "C51: the other sign": (
        distribution_losses, "-(target.detach() *", "(target.detach() *", "c51"),
    "C51: a mean over the atoms": (
        distribution_losses, "log_softmax(dim=1)).sum(dim=1)", "log_softmax(dim=1)).mean(dim=1)",
        "c51"),
    "C51: the target's softmax over the batch": (
        categorical_q_learning, ".softmax(dim=1)", ".softmax(dim=0)", "c51"),
    "C51: double chosen by the target network": (
        categorical_q_learning, "ONLINE_S2 if self.double else TARGET_S2).argmax",
        "TARGET_S2).argmax", "double c51"),
    "C51: double valued by the online network": (
        categorical_q_learning, "of_action(outputs[TARGET_S2], best)",
        "of_action(outputs[ONLINE_S2], best)", "double c51"),
    "C51: chosen by the worst": (
        categorical_q_learning, ".argmax(dim=1)", ".argmin(dim=1)", "c51"),
    "C51: chosen by the sum of the logits": (
        categorical_q_learning, "outputs.q(ONLINE_S2 if self.double else TARGET_S2)",
        "outputs[TARGET_S2].sum(2)", "c51"),
    "C51: |td| as the priority": (
        categorical_q_learning, "td, loss.detach()", "td, td.detach().abs()", "c51"),
    "C51: td from the target's side": (
        categorical_q_learning, "q.gather(1, batch.action.unsqueeze(1)).squeeze(1) - expected",
        "expected - q.gather(1, batch.action.unsqueeze(1)).squeeze(1)", "c51"),
    "quantiles: the indicator's sign": (
        distribution_losses, "error.detach() < 0", "error.detach() > 0", "qr"),
    "quantiles: the error's sign": (
        distribution_losses, "target.detach().unsqueeze(1) - quantiles.unsqueeze(2)",
        "quantiles.unsqueeze(2) - target.detach().unsqueeze(1)", "qr"),
    "quantiles: sum and mean swapped": (
        distribution_losses, ".mean(dim=2).sum(dim=1)", ".sum(dim=2).mean(dim=1)", "qr"),
    "quantiles: a mean over both": (
        distribution_losses, ".mean(dim=2).sum(dim=1)", ".mean(dim=(1, 2))", "qr"),
    "quantiles: fractions not in the order of their quantiles": (
        distribution_losses, "fractions.unsqueeze(-1)", "fractions.flip(-1).unsqueeze(-1)", "iqn"),
    "quantiles: not divided by kappa": (
        distribution_losses, ".sum(dim=1) / delta", ".sum(dim=1)", "double qr"),
    "quantiles: kappa forgotten": (
        distribution_losses, 'reduction="none", delta=delta', 'reduction="none"', "double qr"),
    "quantiles: squares": (
        distribution_losses, "huber = F.huber_loss(", "huber = error * error / 2  # (", "qr"),
    "quantiles: midpoints at the left ends": (
        values_module, "device=device) + 0.5) / count", "device=device) + 0.0) / count", "qr"),
    "quantiles: the fractions of the midpoints": (
        quantile_q_learning, 'drawn["tau"] if "tau" in drawn else ', "", "iqn"),
    "quantiles: discount forgotten": (
        quantile_q_learning, "batch.discount.unsqueeze(1) * value", "value", "qr"),
    "quantiles: double chosen by the target network": (
        quantile_q_learning, "ONLINE_S2 if self.double else CHOICE if implicit else TARGET_S2",
        "CHOICE if implicit else TARGET_S2", "double qr"),
    "quantiles: IQN chosen by the fractions that value": (
        quantile_q_learning, "ONLINE_S2 if self.double else CHOICE if implicit else TARGET_S2",
        "ONLINE_S2 if self.double else TARGET_S2", "iqn"),
    "quantiles: each by the best action for it": (
        quantile_q_learning, "value = of_action(following, choice.argmax(dim=1))",
        "value = following.amax(1)", "qr"),
    "quantiles: of another action": (
        quantile_q_learning, "of_action(outputs[ONLINE_S], batch.action)",
        "of_action(outputs[ONLINE_S], outputs.q(ONLINE_S).argmax(1))", "qr"),
    "quantiles: |td| as the priority": (
        quantile_q_learning, "td, loss.detach()", "td, td.detach().abs()", "qr"),
    "Munchausen: log pi in the place of t log pi": (
        munchausen, "alpha * taken.clamp(", "alpha * (taken / temperature).clamp(", "munchausen"),
    "Munchausen: log pi clipped, then times t": (
        munchausen, "taken.clamp(clip, 0.0)",
        "(temperature * (taken / temperature).clamp(clip, 0.0))", "munchausen"),
    "Munchausen: no clip": (munchausen, "taken.clamp(clip, 0.0)", "taken", "munchausen"),
    "Munchausen: no alpha": (munchausen, "alpha * taken", "taken", "munchausen"),
    "Munchausen: the entropy's sign": (
        munchausen, "-(policy * log_policy).sum", "(policy * log_policy).sum", "munchausen"),
    "Munchausen: no temperature in the policy": (
        munchausen, "(log_policy / temperature).exp()", "log_policy.exp()", "munchausen"),
    "Munchausen: no temperature in the logarithm": (
        munchausen, "below - temperature * (below / temperature)",
        "below - (below / temperature)", "munchausen"),
    "Munchausen: normalised over the batch": (
        munchausen, "logsumexp(dim=1,", "logsumexp(dim=0,", "munchausen"),
    "Munchausen: the entropy shared by the quantiles": (
        munchausen, "+ entropy.unsqueeze(1)", "+ entropy.unsqueeze(1) / values.shape[2]",
        "munchausen qr"),
    "Munchausen: no entropy": (
        munchausen, " + entropy.unsqueeze(1)", "", "munchausen iqn"),
    "Munchausen: the other network's policy": (
        q_learning, 'outputs.q(TARGET_S if munchausen.policy == "target" else ONLINE_S)',
        "outputs.q(ONLINE_S)", "munchausen"),
    "Munchausen: the policy on s2": (
        q_learning, 'outputs.q(TARGET_S if munchausen.policy == "target" else ONLINE_S)',
        "outputs.q(TARGET_S2)", "munchausen qr"),
    "Munchausen: the maximum in the place of the soft value": (
        q_learning, "soft_value(following, following, self.munchausen.temperature)",
        "following.amax(1)", "munchausen"),
    "Munchausen: the bonus discounted": (
        q_learning, "+ bonus(self.munchausen, outputs, batch) + batch.discount * value",
        "+ batch.discount * (value + bonus(self.munchausen, outputs, batch))",
        "munchausen"),
    "Munchausen: discount forgotten": (
        q_learning, "+ batch.discount * value", "+ value", "munchausen"),
    "Munchausen: no bonus for quantiles": (
        quantile_q_learning, "reward + bonus(self.munchausen, outputs, batch)", "reward",
        "munchausen iqn"),
    "Munchausen: IQN's policy by the fractions that value": (
        quantile_q_learning, "outputs[TARGET_S2], outputs.q(self._choice)",
        "outputs[TARGET_S2], outputs.q(TARGET_S2)", "munchausen iqn"),
    "DQN: double by the target network": (
        q_learning, "choice = outputs.q(ONLINE_S2)", "choice = following", "double dqn"),
    "DQN: a signed priority": (
        q_learning, "td.detach().abs()", "td.detach()", "dqn"),
    "DQN: huber for mse": (
        q_learning, 'if self.loss == "huber" else', "if self.loss else", "dqn mse"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault, monkeypatch):
    module, right, wrong, name = FAULTS[fault]
    samples = case_of(KINDS[name].head, "some")
    compare(KINDS[name], samples)
    plant(monkeypatch, module, right, wrong)
    with pytest.raises(AssertionError):
        compare(KINDS[name], samples)


def test_quantiles_the_wrong_way_round_show_where_n_is_not_that_of_the_target(monkeypatch):
    """With N = N' it trains, on transposed quantiles; else it would not run."""
    right = "target.detach().unsqueeze(1) - quantiles.unsqueeze(2)"
    wrong = "target.detach().unsqueeze(2) - quantiles.unsqueeze(1)"
    square, other = torch.zeros(3, 4), torch.ones(3, 5)
    fractions = midpoints(4, square.device)
    plant(monkeypatch, distribution_losses, right, wrong)
    transposed = quantile_q_learning.quantile_huber_loss
    assert transposed(square, square + 1, fractions).isfinite().all()
    with pytest.raises(RuntimeError):
        transposed(square, other, fractions)


# --- by hand -------------------------------------------------------------------------------------


def by_hand(objective, to_q, made, reward, discount):
    """One sample, whose action is the second of two."""
    x = torch.zeros(1, 1)
    batch = Transitions(x, torch.tensor([1]), torch.tensor([reward]), torch.tensor([discount]), x)
    outputs = {forward: torch.tensor([made[NAMES[forward]]]) for forward in objective.forwards}
    return [term.item() for term in objective(Outputs(outputs, to_q), batch, {})]


def test_c51_by_hand():
    # Atoms -1, 0, 1, as logs of weights. Online: the first action is better at s', target: the
    # second. Target's distribution of the first: (1/4, 1/2, 1/4), of the second: (0, 0, 1).
    low = -1e4
    log2, log4 = 0.6931471805599453, 1.3862943611198906
    values = CategoricalValues(-1.0, 1.0, 3)
    made = {
        "online_s": [[0.0, 0.0, 0.0], [0.0, 0.0, log2]],  # of the action: 1/4, 1/4, 1/2
        "online_s2": [[low, low, 0.0], [0.0, low, low]],
        "target_s2": [[0.0, log2, 0.0], [low, low, 0.0]],
    }
    # 0.5 + 0.5 z of the first: 0, 0.5, 1 by 1/4, 1/2, 1/4: (0, 1/2, 1/2); - sum m log p
    double = categorical_q_learning.CategoricalQLearning(values)
    loss = 0.5 * log4 + 0.5 * log2
    assert by_hand(double, values.q_values, made, 0.5, 0.5) == pytest.approx(
        [loss, 0.25 - 0.5, loss], rel=1e-6
    )
    # Of the second: all at 1, and log p there is -log 2.
    single = categorical_q_learning.CategoricalQLearning(values, double=False)
    assert by_hand(single, values.q_values, made, 0.5, 0.5) == pytest.approx(
        [log2, 0.25 - 1.0, log2], rel=1e-6
    )
    # Terminal, at 0.5: (0, 1/2, 1/2) whatever follows.
    assert by_hand(single, values.q_values, made, 0.5, 0.0) == pytest.approx(
        [loss, 0.25 - 0.5, loss], rel=1e-6
    )


def test_qr_by_hand():
    made = {
        "online_s": [[9.0, 9.0], [0.0, 1.0]],
        "online_s2": [[1.0, 3.0], [0.0, 3.0]],  # the first action
        "target_s2": [[0.0, -4.0, 4.0], [0.0, 0.0, 1.0]],  # the second
    }
    to_q = QuantileValues(2).q_values
    # Targets 1 + 0.5 z = 1, -1, 3. tau 1/4 at 0: u = 1, -1, 3: (1/8 + 3/8 + 5/8) / 3; tau 3/4 at 1:
    # u = 0, -2, 2: (0 + 3/8 + 9/8) / 3
    double = quantile_q_learning.QuantileQLearning()
    expected = [1.125 / 3 + 1.5 / 3, 0.5 - 1.0, 1.125 / 3 + 1.5 / 3]
    assert by_hand(double, to_q, made, 1.0, 0.5) == pytest.approx(expected, rel=1e-6)
    # 1, 1, 1.5. At 0: u = 1, 1, 1.5: (1/8 + 1/8 + 1/4) / 3; at 1: u = 0, 0, 1/2: 3/32 / 3
    single = quantile_q_learning.QuantileQLearning(double=False)
    expected = [0.5 / 3 + 0.09375 / 3, 0.5 - 3.5 / 3, 0.5 / 3 + 0.09375 / 3]
    assert by_hand(single, to_q, made, 1.0, 0.5) == pytest.approx(expected, rel=1e-6)


def test_munchausen_by_hand():
    log3, log4 = 1.0986122886681098, 1.3862943611198906
    made = {
        "online_s": [0.0, 4.0],
        "target_s": [0.0, log3],  # pi of the action: 3/4
        "target_s2": [0.0, log3],  # log(1 + 3)
    }
    soft = Munchausen(alpha=0.5, temperature=1.0)
    objective = q_learning.QLearning(munchausen=soft, loss="mse")
    td = 4.0 - (1.0 + 0.5 * (log3 - log4) + 0.5 * log4)
    assert by_hand(objective, lambda q: q, made, 1.0, 0.5) == pytest.approx(
        [td * td, td, td], rel=1e-6
    )
    td = 4.0 - (1.0 + 0.5 * (log3 - log4))  # terminal: the bonus stays
    assert by_hand(objective, lambda q: q, made, 1.0, 0.0)[1] == pytest.approx(td, rel=1e-6)


# --- relations -----------------------------------------------------------------------------------


def test_iqn_at_the_midpoints_is_qr_of_the_same_network():
    torch.manual_seed(0)
    network = make_network((3,), 2, head="iqn", hidden_sizes=(6,), iqn_policy_samples=5)
    g = torch.Generator().manual_seed(0)
    x = torch.randn((4, 3), generator=g)
    tau = {n: {"tau": midpoints(n, x.device).expand(4, -1)} for n in (5, 7)}
    made = {
        ONLINE_S: network(x, tau[5]), ONLINE_S2: network(x + 1, tau[7]),
        TARGET_S2: network(x - 1, tau[7]), CHOICE: network(x - 1, tau[7]),
    }  # fmt: skip
    assert made[ONLINE_S].shape == (4, 2, 5) and torch.equal(network(x), made[ONLINE_S])
    batch = Transitions(x, torch.tensor([0, 1, 1, 0]), x[:, 0], torch.full((4,), 0.9), x)
    for double in (True, False):
        iqn, qr = (
            quantile_q_learning.QuantileQLearning(double=double, implicit=implicit)
            for implicit in (True, False)
        )
        outputs = Outputs(made, network.q_values)
        found, expected = iqn(outputs, batch, {ONLINE_S: tau[5]}), qr(outputs, batch, {})
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_one_quantile_is_half_of_dqn():
    samples = case_of("scalar", "some")
    as_quantiles = [
        {name: [[q] for q in s[name]] if name in NAMES.values() else s[name] for name in s}
        for s in samples
    ]
    for options in ({"double": False}, {}, {"soft": SOFT}, {"soft": online(COLD)}):
        dqn, qr = Kind("scalar", options), Kind("qr", options)
        loss, td, _ = terms_of(dqn, samples)
        half, same, _ = terms_of(qr, as_quantiles)
        torch.testing.assert_close(half, loss / 2, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(same, td, rtol=1e-9, atol=1e-12)


def test_without_its_bonus_and_cold_munchausen_is_dqn():
    cold = {"alpha": 0.0, "temperature": 1e-6, "clip": -1.0, "policy": "target"}
    for head in ("scalar", "qr", "iqn"):
        samples = case_of(head, "some")
        plain = terms_of(Kind(head, {"double": False}), samples)
        for one, other in zip(terms_of(Kind(head, {"soft": cold}), samples), plain, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_without_its_bonus_munchausen_is_soft_q_learning():
    # Haarnoja 2017, eq. 3: V = t log sum exp(Q / t)
    samples = case_of("scalar", "some")
    soft = {**SOFT, "alpha": 0.0}
    td = terms_of(Kind("scalar", {"soft": soft}), samples)[1]
    made, batch, _ = tensors_of(samples)
    value = 0.6 * (made[TARGET_S2] / 0.6).logsumexp(1)
    q = made[ONLINE_S].gather(1, batch.action.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(td, q - batch.reward - batch.discount * value, rtol=1e-9, atol=1e-9)


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in KINDS if not name.endswith("online")])
def test_gradients_are_those_of_finite_differences_and_of_what_trains_alone(name):
    kind = KINDS[name]
    samples = case_of(kind.head, "some")[:3]
    leaves = {f: t.requires_grad_() for f, t in tensors_of(samples)[0].items()}

    def loss_of(x):
        return terms_of(kind, samples, made={**leaves, ONLINE_S: x})[0]

    assert torch.autograd.gradcheck(loss_of, (leaves[ONLINE_S],))
    loss_of(leaves[ONLINE_S]).sum().backward()
    gradient = leaves.pop(ONLINE_S).grad
    assert all(leaf.grad is None for leaf in leaves.values())
    for sample, row in zip(samples, gradient, strict=True):  # of the action that was taken
        of_actions = row.reshape(len(row), -1).abs().sum(1)
        assert [bool(x) for x in of_actions] == [a == sample["action"] for a in range(len(row))]


@pytest.mark.parametrize("name", [name for name in KINDS if name.endswith("online")])
def test_the_bonus_by_the_online_network_has_no_gradient(name):
    kind = KINDS[name]
    by_target = Kind(kind.head, {**kind.options, "soft": SOFT})
    samples = case_of(kind.head, "some")
    x = tensors_of(samples)[0][ONLINE_S].requires_grad_()
    found, expected = (
        torch.autograd.grad(
            terms_of(k, samples, made={ONLINE_S: x, TARGET_S: x.detach()})[0].sum(), x
        )[0]
        for k in (kind, by_target)
    )
    assert torch.equal(found, expected) and found.abs().sum() > 0


# --- what they ask for ---------------------------------------------------------------------------

SOME = {ONLINE_S: 5, TARGET_S2: 6}


@pytest.mark.parametrize(
    ("name", "forwards", "samples"),
    [
        ("dqn", {ONLINE_S, TARGET_S2}, {}),
        ("double dqn", {ONLINE_S, TARGET_S2, ONLINE_S2}, {}),
        ("munchausen", {ONLINE_S, TARGET_S2, TARGET_S}, {}),
        ("munchausen online", {ONLINE_S, TARGET_S2}, {}),
        ("c51", {ONLINE_S, TARGET_S2}, {}),
        ("double c51", {ONLINE_S, TARGET_S2, ONLINE_S2}, {}),
        ("qr", {ONLINE_S, TARGET_S2}, {}),
        ("double qr", {ONLINE_S, TARGET_S2, ONLINE_S2}, {}),
        ("munchausen qr", {ONLINE_S, TARGET_S2, TARGET_S}, {}),
        ("munchausen qr online", {ONLINE_S, TARGET_S2}, {}),
        ("iqn", {ONLINE_S, TARGET_S2, CHOICE}, {**SOME, CHOICE: 7}),
        ("double iqn", {ONLINE_S, TARGET_S2, ONLINE_S2}, {**SOME, ONLINE_S2: 7}),
        (
            "munchausen iqn", {ONLINE_S, TARGET_S2, CHOICE, TARGET_S},
            {**SOME, CHOICE: 7, TARGET_S: 7},
        ),
        ("munchausen iqn online", {ONLINE_S, TARGET_S2, CHOICE}, {**SOME, CHOICE: 7}),
    ],
)  # fmt: skip
def test_forwards_and_their_fractions(name, forwards, samples):
    kind = KINDS[name]
    if kind.head == "iqn":
        sizes = {"samples": 5, "target_samples": 6, "policy_samples": 7}
        kind = Kind("iqn", {**kind.options, **sizes})
    objective = kind.build()
    assert len(objective.forwards) == len(forwards) and set(objective.forwards) == forwards
    assert trains(objective.forwards[-1]) and dict(getattr(objective, "samples", {})) == samples


@pytest.mark.parametrize(
    ("options", "kind", "attributes"),
    [
        ({}, q_learning.QLearning, {"double": True, "huber_delta": 0.5, "loss": "huber"}),
        (
            {"head": "c51", "value_min": -3.0, "atoms": 11},
            categorical_q_learning.CategoricalQLearning,
            {"double": True, "values": CategoricalValues(-3.0, 10.0, 11)},
        ),
        (
            {"head": "qr"}, quantile_q_learning.QuantileQLearning,
            {"double": True, "huber_delta": 0.5, "implicit": False, "samples": {}},
        ),
        (
            {"head": "iqn"}, quantile_q_learning.QuantileQLearning,
            {"implicit": True, "samples": {TARGET_S2: 64, ONLINE_S2: 32, ONLINE_S: 9}},
        ),
    ],
)  # fmt: skip
def test_a_network_gets_the_objective_of_its_head(options, kind, attributes):
    network = make_network((3,), 2, hidden_sizes=(4,), **options)
    chosen = objective_for(network, huber_delta=0.5, samples=9)
    assert type(chosen) is kind
    assert {name: getattr(chosen, name) for name in attributes} == attributes
    if "head" in options:
        with pytest.raises(ConfigError, match="loss = 'mse' is for Q itself"):
            objective_for(network, loss="mse")
    if options.get("head") == "c51":
        with pytest.raises(ConfigError, match="munchausen is not defined"):
            objective_for(network, munchausen=Munchausen())
    else:
        soft = objective_for(network, munchausen=Munchausen())
        assert soft.munchausen == Munchausen() and not soft.double


@pytest.mark.parametrize(("given", "drawn"), [({}, 5), ({"policy_samples": 7}, 7)])
def test_the_next_action_is_chosen_by_as_many_fractions_as_the_network_acts_by(given, drawn):
    network = make_network((3,), 2, hidden_sizes=(4,), head="iqn", iqn_policy_samples=5)
    chosen = objective_for(network, **given).samples
    assert chosen == {TARGET_S2: 64, ONLINE_S2: drawn, ONLINE_S: 64}
    if not given:
        assert Learner(network).objective.samples == chosen


def test_anybodys_network_gets_q_learning():
    assert type(objective_for(nn.Linear(3, 2))) is q_learning.QLearning


@pytest.mark.filterwarnings("ignore:The network was compiled")
def test_a_compiled_network_gets_the_objective_of_the_head_inside():
    network = torch.compile(make_network((3,), 2, hidden_sizes=(4,), head="c51"))
    assert type(objective_for(network)) is categorical_q_learning.CategoricalQLearning


# --- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["c51", "double c51", "qr", "double qr", "munchausen qr", "iqn"])
def test_distributions_of_a_network_that_makes_none_are_refused(name):
    learner = Learner(nn.Linear(4, 3), objective=KINDS[name].build())
    with pytest.raises(ConfigError, match=r"shape \[40, 3\].*use a network with head = 'c51'"):
        learner.update(transitions())


@pytest.mark.parametrize("name", ["iqn", "double iqn", "munchausen iqn"])
def test_implicit_quantiles_at_fractions_that_nobody_drew_are_refused(name):
    class Fixed(nn.Linear):
        def forward(self, observation):
            return super().forward(observation).unflatten(1, (3, 4))

        def q_values(self, output):
            return output.mean(2)

    learner = Learner(Fixed(4, 12), objective=KINDS[name].build())
    before = learner.flat.data.clone()
    with pytest.raises(ConfigError, match=r"implicit = True .* names no 'tau'; leave it out"):
        learner.update(transitions())
    assert torch.equal(learner.flat.data, before)


def test_other_atoms_than_the_network_has_are_refused():
    objective = categorical_q_learning.CategoricalQLearning(CategoricalValues(LOW, HIGH, 51))
    with pytest.raises(
        ConfigError, match=r"6 atoms and the objective's values have 51; use the same"
    ):
        terms_of(KINDS["c51"], case_of("c51", "some"), objective)


# --- TorchRL -------------------------------------------------------------------------------------

GAMMA = 0.9
NO_UPDATER = pytest.mark.filterwarnings("ignore:No target network updater:UserWarning")


def transitions(size=40, n=3):
    g = torch.Generator().manual_seed(0)
    steps = torch.randint(1, n + 1, (size,), generator=g)
    alive = torch.rand(size, generator=g) > 0.25
    return Batch(
        torch.randn((size, 4), generator=g), torch.randint(3, (size,), generator=g),
        torch.randn(size, generator=g), GAMMA**steps * alive,
        torch.randn((size, 4), generator=g), torch.ones(size), torch.arange(size),
    )  # fmt: skip


def run_both(loss, network, target, objective, to_q, batch):
    """TorchRL's loss and priority, and the terms of ours; ``network`` makes what ours takes."""
    parameters = loss.target_value_network_params.items(True, True)
    weights = [p for key, p in parameters if "support" not in key]
    for p, value in zip(weights, target, strict=True):
        p.data.copy_(value)
    names = [name for name, _ in network.named_parameters()]

    def run(forward):
        observation = batch.observation if forward.state == "s" else batch.next_observation
        named = dict(zip(names, target, strict=True)) if forward.network == "target" else {}
        return torch.func.functional_call(network, named, (observation,))

    outputs = Outputs({forward: run(forward) for forward in objective.forwards}, to_q)
    choices = [outputs.q(forward).argmax(1) for forward in (ONLINE_S2, TARGET_S2)]
    assert (choices[0] != choices[1]).any()  # else double would not show
    given = batch.to_tensordict(gamma=GAMMA)
    theirs = loss(given)["loss"]
    return theirs, given["td_error"].squeeze(-1), objective(outputs, Transitions(*batch[:5]), {})


@NO_UPDATER
def test_torchrl_makes_the_same_loss_of_atoms():
    objectives = pytest.importorskip("torchrl.objectives")
    modules = pytest.importorskip("torchrl.modules")
    torch.manual_seed(0)
    values = CategoricalValues(-1.5, 2.0, 11)

    class AtomsFirst(nn.Sequential):
        def forward(self, x):
            return super().forward(x).unflatten(-1, (3, 11)).mT

    network = AtomsFirst(nn.Linear(4, 33))
    actor = modules.DistributionalQValueActor(
        network, support=values.support(torch.device("cpu")), action_space="categorical"
    )
    loss = objectives.DistributionalDQNLoss(actor, gamma=GAMMA, delay_value=True)
    target = [p.detach() + 0.3 * torch.randn_like(p) for p in network.parameters()]

    class ActionsFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x):
            return self.inner(x).mT

    ours = categorical_q_learning.CategoricalQLearning(values)
    theirs, priority, terms = run_both(
        loss, ActionsFirst(), target, ours, values.q_values, transitions()
    )
    assert theirs.item() == pytest.approx(terms[0].mean().item(), rel=1e-5)
    torch.testing.assert_close(terms[2], priority, rtol=1e-4, atol=1e-5)


@NO_UPDATER
@pytest.mark.parametrize("name", ["l2", "smooth_l1"])
def test_torchrl_makes_the_same_loss_of_q(name):
    objectives = pytest.importorskip("torchrl.objectives")
    modules = pytest.importorskip("torchrl.modules")
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    actor = modules.QValueActor(network, in_keys=["observation"], action_space="categorical")
    loss = objectives.DQNLoss(
        actor, loss_function=name, delay_value=True, double_dqn=True, action_space="categorical"
    )
    loss.make_value_estimator(gamma=GAMMA)
    target = [p.detach() + 0.3 * torch.randn_like(p) for p in network.parameters()]
    ours = q_learning.QLearning(loss="mse" if name == "l2" else "huber")
    theirs, priority, terms = run_both(loss, network, target, ours, lambda q: q, transitions())
    assert theirs.item() == pytest.approx(terms[0].mean().item(), rel=1e-5)
    torch.testing.assert_close(terms[2].square(), priority, rtol=1e-4, atol=1e-6)
