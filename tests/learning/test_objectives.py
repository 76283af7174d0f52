"""Objectives: what they ask for is run, with their own random numbers, and in every mode alike."""

import copy

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers.random_network import AGAIN, CHOICE, TARGET, FourForwards, RandomQ, S
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fastdqn.acting.actor import Actor
from fastdqn.config.seeds import subseed
from fastdqn.errors import ConfigError
from fastdqn.learning.draws import UpdateDraws
from fastdqn.learning.input_gradients import input_gradient
from fastdqn.learning.learner import Learner
from fastdqn.learning.objectives import (
    ONLINE_S,
    ONLINE_S2,
    TARGET_S2,
    Outputs,
    Transitions,
    check_forwards,
    run_forwards,
)
from fastdqn.learning.q_learning import QLearning
from fastdqn.networks.draws import Draw
from fastdqn.networks.make import make_network
from fastdqn.networks.trial import try_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.types import Batch, TimeStep

SIZE = 12


def batch(seed=0, size=SIZE):
    g = torch.Generator().manual_seed(seed)
    frames = [torch.randn((size, 4), generator=g) for _ in range(2)]
    return Batch(
        frames[0],
        torch.randint(3, (size,), generator=g),
        torch.randn(size, generator=g),
        torch.where(torch.rand(size, generator=g) < 0.2, 0.0, 0.99),
        frames[1],
        torch.rand(size, generator=g),
        torch.arange(size),
    )


def joined(batches):
    return Batch(*(torch.cat(fields) for fields in zip(*batches, strict=True)))


def random_q():
    torch.manual_seed(0)
    return RandomQ(4, 3)


def mlp():
    torch.manual_seed(0)
    return make_network((4,), 3, hidden_sizes=(8,))


# --- Q-learning ----------------------------------------------------------------------------------


def test_double_q_learning_by_hand():
    # Online chooses the second action of s', the target values it at 5; discount 0.5, reward 1.
    outputs = Outputs(
        {
            ONLINE_S: torch.tensor([[2.0, 7.0]]),
            ONLINE_S2: torch.tensor([[1.0, 3.0]]),
            TARGET_S2: torch.tensor([[9.0, 5.0]]),
        },
        lambda output: output,
    )
    x = torch.zeros(1, 1)
    transitions = Transitions(x, torch.tensor([0]), torch.tensor([1.0]), torch.tensor([0.5]), x)
    for double, td, loss in ((True, -1.5, 1.0), (False, -3.5, 3.0)):
        terms = QLearning(double=double)(outputs, transitions, {})
        assert [float(term) for term in terms] == [loss, td, -td]
        assert float(QLearning(double=double, loss="mse")(outputs, transitions, {})[0]) == td * td
    assert float(QLearning(huber_delta=0.5)(outputs, transitions, {})[0]) == 0.5 * (1.5 - 0.25)


@pytest.mark.parametrize("options", [{}, {"double": False, "loss": "mse"}, {"huber_delta": 0.3}])
def test_given_as_an_objective_it_is_the_same_bit_for_bit(options):
    ours = Learner(mlp(), target_period_updates=2, **options)
    given_one = Learner(mlp(), target_period_updates=2, objective=QLearning(**options))
    for i in range(5):
        results = [learner.update(batch(i)) for learner in (ours, given_one)]
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert torch.equal(ours.flat.data, given_one.flat.data)


# --- what is asked for is run, and nothing else --------------------------------------------------


class Asks:
    """The mean of Q, and forwards that it does not look at."""

    def __init__(self, *forwards):
        self.forwards = forwards

    def __call__(self, outputs, batch, randoms):
        q = outputs.q(self.forwards[-1]).mean(1)
        return q, q, q.detach().abs()


@pytest.mark.parametrize(
    "forwards",
    [[("online", "s", 0)], [("target", "s", 3), ("online", "s", 1)],
     [("target", "s2", 0), ("online", "s2", 0), ("online", "s2", 1), ("online", "s", 0)]],
)  # fmt: skip
def test_each_forward_runs_once_on_its_state_and_network(forwards):
    learner = Learner(mlp(), objective=Asks(*forwards))
    one = batch()
    learner.update(one)  # the first is tried
    seen = []
    for name, network in (
        ("online", learner.network), ("online", learner.acting_network),
        ("target", learner.target.network),
    ):  # fmt: skip
        network.register_forward_pre_hook(
            lambda module, args, name=name: seen.append((name, args[0], module.training))
        )
    learner.update(one)
    states = {"s": one.observation, "s2": one.next_observation}
    assert len(seen) == len(forwards)
    for network, state, _ in forwards:
        wanted = (network, id(states[state]), network == "online" and state == "s")
        assert [(n, id(x), training) for n, x, training in seen].count(wanted) == [
            (f[0], f[1]) for f in forwards
        ].count((network, state))


@pytest.mark.parametrize("head", ["scalar", "c51", "qr"])
def test_q_has_its_gradient_also_where_it_was_looked_at_without_one(head):
    class Looks(Asks):
        def __call__(self, outputs, batch, randoms):
            with torch.no_grad():
                best = outputs.q(ONLINE_S).argmax(1, keepdim=True)
            q = outputs.q(ONLINE_S).gather(1, best).squeeze(1)
            return q.square() + outputs[ONLINE_S].flatten(1).mean(1), q, q.detach().abs()

    class Plain(Looks):
        def __call__(self, outputs, batch, randoms):
            outputs.q(ONLINE_S)
            return super().__call__(outputs, batch, randoms)

    changed = []
    for kind in (Looks, Plain):
        torch.manual_seed(0)
        network = make_network((4,), 3, hidden_sizes=(8,), head=head)
        learner = Learner(network, objective=kind(ONLINE_S), optimizer_epsilon=1.0)
        learner.update(batch())
        changed.append(learner.flat.data)
    assert torch.equal(*changed)


def test_only_the_online_network_on_s_has_a_gradient():
    network = mlp()
    objective = Asks(("target", "s2", 0), ("online", "s2", 0), ("online", "s", 0))
    outputs = run_forwards(objective, lambda _: network(batch().observation), lambda q: q)
    assert [outputs[f].requires_grad for f in objective.forwards] == [False, False, True]


# --- random numbers ------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_draws_are_whole_disjoint_and_in_order(batch_size, width, forwards):
    class Network(nn.Module):
        def random_shapes(self, size):
            return {"a": Draw("uniform", (size, width)), "b": Draw("normal", (width,)),
                    "c": Draw("uniform", ())}  # fmt: skip

    triples = [("online", "s", k) for k in range(forwards)]
    draws = UpdateDraws(Network(), Asks(*triples))
    tensors = draws.draw(batch_size, torch.Generator().manual_seed(3))
    named = draws.by_forward(tensors, batch_size)
    g = torch.Generator().manual_seed(3)
    uniform = torch.rand(forwards * (batch_size * width + 1), generator=g)
    normal = torch.randn(forwards * width, generator=g)
    assert list(named) == triples
    for forward in triples:
        a, b, c = (named[forward][name] for name in "abc")
        size = batch_size * width
        assert torch.equal(a, uniform[:size].view(batch_size, width))
        assert torch.equal(c, uniform[size]) and torch.equal(b, normal[:width])
        uniform, normal = uniform[size + 1 :], normal[width:]
    assert not len(uniform) and not len(normal)


def test_a_network_that_takes_none_draws_none():
    learner = Learner(mlp())
    before = learner.generator.get_state()
    learner.update(batch())
    assert torch.equal(learner.generator.get_state(), before)


def plain_loop(updates, seed, size=SIZE):
    """Updates as a tutorial writes them, with the learner's random numbers drawn one by one."""
    online = random_q()
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-2)
    g = torch.Generator().manual_seed(subseed(seed, "updates"))
    results = []
    for i in range(updates):
        b = batch(i, size)
        uniform = torch.rand(4 * size * 8, generator=g).view(4, size, 8)
        normal = torch.randn(4 * 8, generator=g).view(4, 8)
        drawn = {
            forward: {"scale": uniform[k], "shift": normal[k]}
            for k, forward in enumerate((S, TARGET, CHOICE, AGAIN))
        }
        with torch.no_grad():
            best = online(b.next_observation, drawn[CHOICE]).argmax(1)
            value = target(b.next_observation, drawn[TARGET])[torch.arange(size), best]
            aim = b.reward + b.discount * value + drawn[S]["scale"].mean(1)
            aim += 0.1 * target(b.observation, drawn[AGAIN]).mean(1)
        td = online(b.observation, drawn[S])[torch.arange(size), b.action] - aim
        loss = (b.weight * (td**2 + 0.5 * td.abs())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        results.append((loss.detach(), td.detach(), td.detach() ** 2 + 1))
    return online, results


def random_learner(**options):
    return Learner(
        random_q(), objective=FourForwards(), learning_rate=1e-2, seed=5,
        compile_backend="aot_eager", **options,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_every_forward_gets_its_own_numbers_as_in_a_plain_loop(mode):
    learner = random_learner(mode=mode)
    online, expected = plain_loop(6, seed=5)
    for i in range(6):
        torch.testing.assert_close(tuple(learner.update(batch(i))), expected[i])
    for ours, theirs in zip(learner.network.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach())


class Given:
    """A replay that draws what it is given."""

    prioritized = False

    def __init__(self, batches):
        self.batches, self.generator = list(batches), torch.Generator()

    def sample(self, size, *, beta):
        count = size // SIZE
        drawn, self.batches = self.batches[:count], self.batches[count:]
        return joined(drawn)


def test_fused_updates_draw_the_same_numbers_and_take_the_objectives_priority():
    learner = random_learner(mode="compile", updates_per_launch=3)
    assert learner._fused is not None
    learner._tried = True  # what is given cannot be given twice
    online, expected = plain_loop(6, seed=5)
    result = learner.update_from(Given(batch(i) for i in range(6)), 6, batch_size=SIZE)
    torch.testing.assert_close(tuple(result), expected[-1])
    for ours, theirs in zip(learner.network.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach())
    losses = torch.stack([loss for loss, _, _ in expected])
    tds = torch.stack([td for _, td, _ in expected])
    told = learner.read_statistics()
    assert told["loss"] == pytest.approx(float(losses.sum()), rel=1e-4)
    assert told["td_error_abs"] == pytest.approx(float(tds.abs().mean(1).sum()), rel=1e-4)


def test_the_generator_is_saved_and_goes_on():
    one = random_learner()
    one.update(batch())
    other = random_learner()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    results = [learner.update(batch(1)) for learner in (one, other)]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    older = random_learner()
    state = one.state_dict()
    del state["generator"]  # a checkpoint of before there was one
    older.load_state_dict(state)


# --- priorities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_the_replay_gets_the_objectives_priorities(mode):
    replay = ReplayBuffer(400, 2, Box(-9, 9, (4,), np.float32), prioritized=True, alpha=1.0)
    rng = np.random.default_rng(0)
    for i in range(40):
        none = np.zeros(2, bool)
        frames = rng.normal(size=(2, 4)).astype(np.float32)
        step = TimeStep(frames, np.ones(2, np.float32), none, none, none | (i == 0))
        replay.add(step, None if i == 0 else np.zeros(2, np.int64))
    seen = []
    write = replay.write_priorities
    replay.write_priorities = lambda index, priority: (
        seen.append(priority) or write(index, priority)
    )
    result = random_learner(mode=mode).update_from(replay, 2, batch_size=SIZE)
    assert len(seen) == 2 and torch.equal(seen[-1], result.priority)
    torch.testing.assert_close(result.priority, result.td_error.square() + 1.0)


# --- what is refused, before anything has changed ------------------------------------------------


@pytest.mark.parametrize(
    ("forwards", "said"),
    [
        (None, "has no forwards"),
        ((), "has no forwards"),
        ((("online", "s"),), "asks for ('online', 's')"),
        ((("online", "x", 0),), "asks for ('online', 'x', 0)"),
        ((("both", "s", 0),), "asks for ('both', 's', 0)"),
        ((("online", "s", 0.5),), "asks for ('online', 's', 0.5)"),
        ((("target", "s", 0), ("online", "s2", 0)), "trains nothing"),
    ],
)
def test_forwards_are_checked_at_once(forwards, said):
    objective = Asks(*(forwards or ()))
    if forwards is None:
        del objective.forwards
    with pytest.raises(ConfigError, match=r"The objective \(Asks\)") as error:
        check_forwards(objective)
    assert said in str(error.value)
    with pytest.raises(ConfigError):
        Learner(mlp(), objective=objective)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (lambda: {}, "does not take a number of rows .*; give it that argument"),
        (lambda size: None, "returned None; return a dict of"),
        (lambda size: {"scale": ("uniform", (size,))}, "returned .*'uniform'"),
        (lambda size: {"scale": Draw("gauss", (size,))}, "returned .*'gauss'"),
        (lambda size: {"scale": Draw("normal", size)}, r"returned .*; return a dict of .* such as"),
    ],
)
@pytest.mark.parametrize("method", ["random_shapes", "acting_shapes"])
def test_what_a_network_says_it_draws_is_checked_at_once(method, shapes, said):
    network = random_q()
    setattr(network, method, shapes)
    with pytest.raises(ConfigError, match=rf"{method} of the network \(RandomQ\) {said}"):
        if method == "random_shapes":
            Learner(network)
        else:
            Actor(network, 2)
    if method == "random_shapes":
        with pytest.raises(ConfigError, match=rf"{method} of the network \(RandomQ\) {said}"):
            try_network(network, (4,), torch.float32, 3)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (5, "has samples that are int"),
        ({("online", "s"): 5}, "has samples of ('online', 's'), which is none of its forwards"),
        ({ONLINE_S: 0}, "= 0 is out of range"),
        ({ONLINE_S: 2.5}, "= 2.5 has the wrong type"),
    ],
)
def test_numbers_of_fractions_are_checked_at_once(samples, said):
    objective = Asks(ONLINE_S)
    objective.samples = samples
    with pytest.raises(ConfigError) as error:
        Learner(mlp(), objective=objective)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (lambda q: q, "returned Tensor"),
        (lambda q: (q, q), "returned tuple"),
        (lambda q: (q.mean(), q, q), r"returned [] as its loss"),
        (lambda q: (q, q[:, None], q), r"returned [12, 1] as its TD error"),
        (lambda q: (q, q, None), "returned NoneType as its priority"),
        (lambda q: (q.double(), q, q), "returned torch.float64 as its loss"),
        (lambda q: (q, q.bfloat16(), q), "returned torch.bfloat16 as its TD error"),
        (lambda q: (q, q, q > 0), "returned torch.bool as its priority"),
        (lambda q: (q.detach(), q, q), "returned a loss without a gradient"),
    ],
)
@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_what_it_returns_is_checked_before_the_first_update(terms, said, mode):
    class Wrong(Asks):
        def __call__(self, outputs, batch, randoms):
            return terms(outputs.q(self.forwards[-1]).mean(1))

    learner = Learner(mlp(), objective=Wrong(ONLINE_S), mode=mode, compile_backend="aot_eager")
    before = copy.deepcopy(learner.state_dict())
    with pytest.raises(ConfigError, match=r"The objective \(Wrong\)") as error:
        learner.update(batch())
    assert said in str(error.value)
    after = learner.state_dict()
    assert all(torch.equal(after["network"][k], v) for k, v in before["network"].items())


# --- between the gradients and their use ---------------------------------------------------------


def test_the_mean_of_two_gradients_is_that_of_both_batches():
    halves = [batch(0), batch(1)]
    others = []
    Learner(mlp(), reduce_gradients=lambda g: others.append(g.clone())).update(halves[1])
    one = Learner(mlp(), max_grad_norm=0.1, reduce_gradients=lambda g: g.add_(others[0]).mul_(0.5))
    whole = Learner(mlp(), max_grad_norm=0.1)
    one.update(halves[0])
    whole.update(joined(halves))
    torch.testing.assert_close(one.flat.data, whole.flat.data, rtol=1e-5, atol=1e-6)
    assert not torch.equal(one.flat.data, Learner(mlp()).flat.data)


def test_with_an_exchange_updates_are_not_fused():
    calls = []
    learner = Learner(
        mlp(), mode="compile", compile_backend="aot_eager", updates_per_launch=2,
        reduce_gradients=calls.append,
    )  # fmt: skip
    learner.update_from(Given(batch(i) for i in range(4)), 4, batch_size=SIZE)
    assert len(calls) == 4


# --- input gradients -----------------------------------------------------------------------------


def test_input_gradients_are_of_the_same_objective():
    network, b = mlp(), batch()
    given_one = {
        "action": b.action, "reward": b.reward, "discount": b.discount,
        "next_observation": b.next_observation, "of": "loss",
    }  # fmt: skip
    mse = QLearning(double=False, loss="mse")
    assert torch.equal(
        input_gradient(network, b.observation, objective=mse, **given_one),
        input_gradient(network, b.observation, double=False, loss="mse", **given_one),
    )
    found = input_gradient(network, b.observation, objective=Asks(ONLINE_S), **given_one)
    x = b.observation.clone().requires_grad_()
    expected = torch.autograd.grad(network.eval()(x).mean(1).sum(), x)[0]
    torch.testing.assert_close(found, expected)
    with pytest.raises(ConfigError, match="trains nothing"):
        input_gradient(network, b.observation, objective=Asks(TARGET_S2), **given_one)
