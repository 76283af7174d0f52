"""Heads, noise and Munchausen in every way to run an update: compiled, several as one, in bfloat16.

``aot_eager`` traces as Inductor does, and needs no C++ compiler.
"""

import numpy as np
import pytest
import torch
from helpers.given_batches import B, Given, batch
from torch import nn
from torch._dynamo import lookup_backend

from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.learner import Learner
from fastdqn.learning.munchausen import Munchausen
from fastdqn.learning.q_learning import QLearning
from fastdqn.networks.heads import DuelingHead, LinearHead
from fastdqn.networks.make import make_network
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.values import QuantileValues, ScalarValues

K = 2
C51 = {"head": "c51", "atoms": 5}
QR = {"head": "qr", "quantiles": 4}
IQN = {"head": "iqn", "iqn_cosines": 4, "iqn_policy_samples": 3}
MENU = {
    "noisy c51": ({**C51, "noisy": True, "dueling": True}, None),
    "qr": (QR, None),
    "normalised": ({"noisy": True, "layer_norm": True}, None),
    "iqn": (IQN, None),
    "soft": ({"noisy": True}, Munchausen()),
    "soft iqn": (IQN, Munchausen(policy="online")),
}


def make_learner(name, *, image=False, **options):
    changes, munchausen = MENU[name]
    shape, kind, stack = ((25, 25), "der", 2) if image else ((4,), "mlp", None)
    torch.manual_seed(0)
    network = make_network(shape, 3, kind=kind, frame_stack=stack, hidden_sizes=(16,), **changes)
    samples = {"samples": 4, "target_samples": 2, "policy_samples": 3}
    return Learner(
        network,
        objective=objective_for(network, munchausen=munchausen, **samples),
        # Adam divides by almost nothing where a gradient is: rounding would become a step.
        **{"learning_rate": 1e-2, "optimizer_epsilon": 1e-2, "precision": "fp32", **options},
    )


def launched(learner, replay, *times):
    """Loss, TD errors and priorities of each last update."""
    learner._tried = True  # what is given cannot be given twice
    return [learner.update_from(replay, count, batch_size=B) for count in times]


def assert_alike(one, other, tolerance=1e-5):
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(one.flat.data, other.flat.data, **close)
    torch.testing.assert_close(one.target.flat.data, other.target.flat.data, **close)
    torch.testing.assert_close(one.statistics, other.statistics, **close)
    assert torch.equal(one.generator.get_state(), other.generator.get_state())
    assert one.updates == other.updates


@pytest.mark.parametrize("name", MENU)
def test_compiled_and_several_as_one_it_is_as_eager_and_one_by_one(name):
    """And nothing is compiled again once both kinds of launches have run."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return lookup_backend("aot_eager")(graph, inputs)

    options = {"target_period_updates": K + 1}
    whole = make_learner(
        name, mode="compile", compile_backend=backend, updates_per_launch=K, **options
    )
    plain = make_learner(name, mode="eager", **options)
    assert whole._fused is not None
    replay, twin = Given(), Given()
    start = plain.flat.data.clone()
    for turn in range(3):
        seen = launched(whole, replay, K, 1)
        expected = launched(plain, twin, K, 1)
        for ours, theirs in zip(seen, expected, strict=True):
            torch.testing.assert_close(tuple(ours), tuple(theirs), rtol=1e-5, atol=1e-5)
        assert_alike(whole, plain)
        assert len(compiled) == 2, turn
        whole.set_learning_rate(1e-2 / (turn + 2)), plain.set_learning_rate(1e-2 / (turn + 2))
    assert (plain.flat.data - start).abs().max() > 1e-3


class Returning(nn.Linear):
    """Q in another type than float32."""

    def __init__(self, dtype):
        torch.manual_seed(0)
        super().__init__(4, 3)
        self.dtype = dtype

    def forward(self, observation):
        return super().forward(observation).to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("munchausen", [None, Munchausen(policy="online")])
def test_what_a_network_returns_is_float32_however_many_run_as_one(dtype, munchausen):
    results = []
    for options in ({"mode": "eager"}, {"mode": "compile", "updates_per_launch": K}):
        objective = QLearning(munchausen=munchausen)
        learner = Learner(
            Returning(dtype), objective=objective, optimizer_epsilon=1.0, learning_rate=0.1,
            compile_backend="aot_eager", **options,
        )  # fmt: skip
        assert (learner._fused is not None) == ("updates_per_launch" in options)
        results += launched(learner, Given(), K)
    one, other = map(tuple, results)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


NUMPY = {
    "scalar": {},
    "c51": {"head": "c51", "atoms": np.int64(5), "value_min": np.float32(-1)},
    "qr": {"head": "qr", "quantiles": np.int32(3), "dueling": np.bool_(True)},
    "iqn": {
        "head": "iqn", "iqn_cosines": np.int64(4), "iqn_policy_samples": np.int64(3),
        "iqn_cvar": np.float32(0.5), "noisy": np.bool_(True), "noisy_sigma": np.float32(0.1),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "soft"),
    [(name, soft) for name in NUMPY for soft in (False, True) if (name, soft) != ("c51", True)],
)
def test_numbers_of_numpy_are_compiled_as_pythons_own(name, soft):
    results = []
    for mode in ("eager", "compile"):
        torch.manual_seed(0)
        network = make_network((np.int64(4),), np.int64(3), hidden_sizes=(8,), **NUMPY[name])
        munchausen = Munchausen(
            alpha=np.float32(0.5), temperature=np.float32(0.25), clip=np.int64(-1)
        )
        objective = objective_for(
            network, double=np.bool_(True), huber_delta=np.float32(0.5),
            munchausen=munchausen if soft else None,
            samples=np.int64(4), target_samples=np.int32(2), policy_samples=np.int64(3),
        )  # fmt: skip
        learner = Learner(
            network, objective=objective, random_shift=np.int64(0), mode=mode,
            compile_backend="aot_eager", optimizer="rmsprop", rmsprop_alpha=np.float32(0.5),
            rmsprop_centred=np.bool_(True), optimizer_epsilon=np.float32(0.5),
            learning_rate=np.float32(0.5), max_grad_norm=np.float32(1),
            target_period_updates=np.int64(K), target_tau=np.float32(0.5),
            updates_per_launch=np.int64(K), seed=np.int64(1),
        )  # fmt: skip
        assert (learner._fused is not None) == (mode == "compile")
        results.append([*map(tuple, launched(learner, Given(), K, 1)), learner.flat.data])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("numbers", [None, np.int64(5)])
@pytest.mark.parametrize("kind", [LinearHead, DuelingHead])
def test_a_head_made_by_sizes_of_numpy_is_compiled(kind, numbers):
    results = []
    for mode in ("eager", "compile"):
        torch.manual_seed(0)
        head = kind(np.int64(4), np.int64(3), numbers)
        values = ScalarValues() if numbers is None else QuantileValues(numbers)
        network = QNetwork(nn.Flatten(), head, values=values)
        learner = Learner(network, mode=mode, compile_backend="aot_eager")
        results.append(tuple(learner.update(batch())))
    torch.testing.assert_close(*results)


@pytest.mark.slow
@pytest.mark.parametrize("name", MENU)
def test_inductor_makes_the_same_of_it(name):
    whole = make_learner(name, mode="compile", updates_per_launch=K)
    plain = make_learner(name, mode="eager")
    launched(whole, Given(), K, 1, K), launched(plain, Given(), K, 1, K)
    assert_alike(whole, plain)


@pytest.mark.parametrize("name", ["noisy c51", "iqn"])
@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_an_update_gets_the_same_random_numbers_however_many_run_as_one(name, mode, monkeypatch):
    monkeypatch.setattr("fastdqn.learning.learner.compile_pure", lambda function, **_: function)

    def drawn(launch):
        learner = make_learner(name, mode=mode, updates_per_launch=launch, seed=3)
        assert (learner._fused is not None) == (mode == "compile" and launch > 1)
        taken = []
        draw = learner._draws.draw
        learner._draws.draw = lambda *args: taken.append(draw(*args)) or taken[-1]
        launched(learner, Given(), 6)
        return taken

    one, three, six = drawn(1), drawn(3), drawn(6)
    assert len(one) == len(three) == len(six) == 6
    for tensors in zip(one, three, six, strict=True):
        for first, *others in zip(*tensors, strict=True):
            assert all(torch.equal(first, other) for other in others)
    assert not any(torch.equal(a, b) for a, b in zip(one[0], one[1], strict=True))


@pytest.mark.parametrize("name", MENU)
def test_in_bfloat16_all_but_the_head_is_lowered_and_near_to_float32(name):
    low, full = (make_learner(name, image=True, precision=p) for p in ("bf16", "fp32"))
    masters = dict(low.network.named_parameters())
    for parameter_name, parameter in low._twin.network.named_parameters():
        if parameter_name.startswith("head."):
            assert parameter is masters[parameter_name]
        else:
            assert parameter.dtype == torch.bfloat16
            assert torch.equal(parameter, masters[parameter_name].bfloat16())
    lowered = {n.partition(".")[0] for n, p in low._twin.network.named_parameters()
               if p.dtype == torch.bfloat16}  # fmt: skip
    assert lowered == ({"torso", "embedding"} if low.network.implicit else {"torso"})
    if "noisy" in MENU[name][0]:
        assert low._twin.network.torso.hidden.weight_sigma.dtype == torch.bfloat16

    one = batch(image=True)
    randoms = low._draws.draw(B, torch.Generator().manual_seed(0))
    a, b = (learner._gradients(*one[:6], *randoms) for learner in (low, full))
    assert {tensor.dtype for tensor in a} == {torch.float32}
    assert torch.nn.functional.cosine_similarity(a[0], b[0], dim=0) > 0.99
    for ours, theirs in zip(a[1:], b[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)

    low.update(one)
    for parameter_name, parameter in low._twin.network.named_parameters():
        assert torch.equal(parameter, masters[parameter_name].to(parameter.dtype))
