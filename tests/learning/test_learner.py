"""The learner against a plain training loop, in every mode, and its targets, clips and state."""

import copy
import pickle

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import nn

from fastdqn.errors import CheckpointError, ConfigError, FastDQNError
from fastdqn.learning.learner import Learner
from fastdqn.networks.make import make_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.system.compilation import resolve_mode
from fastdqn.system.devices import has_bf16
from fastdqn.types import Batch, TimeStep


def network(seed=0, **kwargs):
    torch.manual_seed(seed)
    return make_network((4,), 3, hidden_sizes=(16, 8), **kwargs)


def cnn(seed=0, **kwargs):
    torch.manual_seed(seed)
    return make_network((36, 36), 3, frame_stack=2, hidden_sizes=(16,), **kwargs)


def batch(seed=0, size=16, shape=(4,), image=False):
    g = torch.Generator().manual_seed(seed)

    def frames():
        if image:
            return torch.randint(0, 256, (size, *shape), dtype=torch.uint8, generator=g)
        return torch.randn((size, *shape), generator=g)

    return Batch(
        frames(),
        torch.randint(3, (size,), generator=g),
        torch.randn(size, generator=g),
        torch.where(torch.rand(size, generator=g) < 0.2, 0.0, 0.99),
        frames(),
        torch.rand(size, generator=g),
        torch.arange(size),
    )


def images(seed=0):
    return batch(seed, shape=(2, 36, 36), image=True)


def plain_update(net, target, optimizer, b, *, double, loss, clip_norm=None, clip_value=None):
    """An update as a tutorial writes it."""
    with torch.no_grad():
        if double:
            best = net(b.next_observation).argmax(1)
            following = target(b.next_observation)[torch.arange(len(best)), best]
        else:
            following = target(b.next_observation).max(1).values
        y = b.reward + b.discount * following
    q = net(b.observation)[torch.arange(len(y)), b.action]
    per_sample = (
        nn.functional.smooth_l1_loss(q, y, reduction="none") if loss == "huber" else (q - y) ** 2
    )
    total = (b.weight * per_sample).mean()
    optimizer.zero_grad()
    total.backward()
    if clip_norm:
        nn.utils.clip_grad_norm_(net.parameters(), clip_norm)
    if clip_value:
        nn.utils.clip_grad_value_(net.parameters(), clip_value)
    optimizer.step()
    return total.item(), (q - y).detach()


class PlainRMSprop:
    """Mnih 2015: m and v average g and g^2; p -= lr g / sqrt(v - m^2 + eps)."""

    def __init__(self, net):
        self.parameters = list(net.parameters())
        self.averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self):
        for p, (m, v) in zip(self.parameters, self.averages, strict=True):
            m.copy_(0.95 * m + 0.05 * p.grad)
            v.copy_(0.95 * v + 0.05 * p.grad**2)
            p -= 1e-3 * p.grad / (v - m**2 + 0.01).sqrt()


VARIANTS = {
    "dqn": {"double": False},
    "double": {},
    "mse": {"loss": "mse"},
    "clip norm": {"max_grad_norm": 0.05},
    "clip value": {"max_grad_value": 0.003},
    "rmsprop": {"optimizer": "rmsprop", "optimizer_epsilon": 0.01},
    "dueling": {"dueling": True},
    "images": {"images": True},
}


def same_as_the_plain_loop(variant, mode="eager", backend="aot_eager", tolerance=1e-5):
    options = dict(VARIANTS[variant])
    make, data = (cnn, images) if options.pop("images", False) else (network, batch)
    start = make(dueling=options.pop("dueling", False))
    net, target = copy.deepcopy(start), copy.deepcopy(start)
    learner = Learner(
        start,
        mode=mode,
        compile_backend=backend,
        precision="fp32",
        learning_rate=1e-3,
        target_period_updates=7,
        **options,
    )
    kind = options.get("optimizer", "adam")
    optimizer = (
        torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-8)
        if kind == "adam"
        else PlainRMSprop(net)
    )
    for i in range(20):
        b = data(i)
        expected, td = plain_update(
            net,
            target,
            optimizer,
            b,
            double=options.get("double", True),
            loss=options.get("loss", "huber"),
            clip_norm=options.get("max_grad_norm"),
            clip_value=options.get("max_grad_value"),
        )
        result = learner.update(b)
        assert result.loss.item() == pytest.approx(expected, rel=1e-3, abs=1e-6)
        torch.testing.assert_close(result.td_error, td, rtol=1e-3, atol=1e-4)
        assert torch.equal(result.priority, result.td_error.abs())
        if (i + 1) % 7 == 0:
            target.load_state_dict(net.state_dict())
    for ours, theirs in zip(learner.network.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance * 100, atol=tolerance)
    for ours, theirs in zip(learner.target_network.parameters(), target.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance * 100, atol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_updates_equal_a_plain_loop(variant):
    same_as_the_plain_loop(variant, tolerance=2e-5)


def test_many_learners_of_different_shapes_compile_in_one_process():
    for hidden in range(8, 20):
        learner = Learner(
            make_network((4,), 3, hidden_sizes=(hidden,)), mode="compile", compile_backend="eager"
        )
        learner.update(batch())


@pytest.mark.parametrize("variant", ["double", "dqn", "dueling", "images"])
def test_the_compiled_update_is_the_same(variant):
    same_as_the_plain_loop(variant, mode="compile", tolerance=2e-5)


def test_inductor_compiles_the_update_whole():
    """One smoke test with the real compiler; the others need no C++."""
    same_as_the_plain_loop("double", mode="compile", backend="inductor", tolerance=2e-5)


def filled_replay(seed=0, **kwargs):
    kwargs = {"prioritized": True, **kwargs}
    replay = ReplayBuffer(400, 4, Box(-9, 9, (4,), np.float32), seed=1, **kwargs)
    g = np.random.default_rng(seed)
    for i in range(60):
        step = TimeStep(
            g.standard_normal((4, 4), dtype=np.float32),
            g.standard_normal(4, dtype=np.float32),
            g.random(4) < 0.1,
            g.random(4) < 0.1,
            np.full(4, i == 0),
        )
        replay.add(step, None if i == 0 else g.integers(0, 3, 4))
    return replay


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_update_from_is_sample_update_write_back(mode):
    replay, twin = filled_replay(), filled_replay()
    options = {"mode": mode, "compile_backend": "aot_eager", "target_period_updates": 3}
    whole, parts = Learner(network(), **options), Learner(network(), **options)
    whole.update_from(replay, 5, batch_size=8, beta=0.6)
    for _ in range(5):
        drawn = twin.sample(8, beta=torch.tensor(0.6))
        twin.update_priorities(drawn.index, parts.update(drawn).priority)
    assert torch.equal(whole.flat.data, parts.flat.data)
    assert torch.equal(replay.tree.leaves, twin.tree.leaves)
    assert whole.updates == parts.updates == 5
    assert whole.update_from(replay, 0, batch_size=8) is None


def test_target_by_period_polyak_or_none():
    period = Learner(network(), target_period_updates=3, learning_rate=0.1)
    before = period.target_network.head.q.weight.clone()
    for i in range(2):
        period.update(batch(i))
    assert torch.equal(period.target_network.head.q.weight, before)
    period.update(batch(2))
    assert torch.equal(period.target_network.head.q.weight, period.network.head.q.weight)
    assert not torch.equal(period.network.head.q.weight, before)

    polyak = Learner(network(), target_period_updates=1, target_tau=0.25, learning_rate=0.1)
    old = polyak.target.flat.data.clone()
    polyak.update(batch(0))
    torch.testing.assert_close(polyak.target.flat.data, old + 0.25 * (polyak.flat.data - old))

    none = Learner(network(), target_period_updates=None)
    own = zip(none.target_network.parameters(), none.network.parameters(), strict=True)
    assert all(target is online for target, online in own)
    none.update(batch(0))


def test_the_target_gets_no_gradient_and_shares_no_memory():
    learner = Learner(network())
    assert not any(p.requires_grad for p in learner.target_network.parameters())
    own = {p.untyped_storage().data_ptr() for p in learner.network.parameters()}
    assert len(own) == 1, "one flat buffer"
    assert own.isdisjoint(
        p.untyped_storage().data_ptr() for p in learner.target_network.parameters()
    )


def test_statistics_count_finite_losses():
    learner = Learner(network())
    results = [learner.update(batch(i)) for i in range(3)]
    learner.update(batch(3)._replace(reward=torch.full((16,), float("nan"))))
    read = learner.read_statistics()
    assert read["finite"] == 3
    assert np.isnan(read["loss"])
    learner = Learner(network())
    results = [learner.update(batch(i)).loss.item() for i in range(3)]
    read = learner.read_statistics()
    assert read["loss"] == pytest.approx(sum(results))
    assert learner.read_statistics()["loss"] == 0


def test_convolutions_are_channels_last_in_memory_and_canonical_in_the_state():
    learner = Learner(cnn(), precision="fp32")
    weight = learner.network.torso.conv2.weight
    assert weight.shape == (64, 32, 4, 4)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    state = learner.state_dict()
    assert state["network"]["torso.conv2.weight"].shape == (64, 32, 4, 4)
    learner.update(images())
    moments = learner.state_dict()["moments"]["exp_avg"]
    assert moments["torso.conv2.weight"].shape == (64, 32, 4, 4)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_state_goes_round_bit_for_bit(optimizer):
    options = {"optimizer": optimizer, "target_period_updates": 4, "precision": "fp32"}
    learner = Learner(cnn(0), **options)
    for i in range(6):
        learner.update(images(i))
    twin = Learner(cnn(1), **options)
    twin.load_state_dict(copy.deepcopy(learner.state_dict()))
    for i in range(6, 12):
        a, b = learner.update(images(i)), twin.update(images(i))
        assert torch.equal(a.loss, b.loss)
    assert torch.equal(learner.flat.data, twin.flat.data)
    assert torch.equal(learner.target.flat.data, twin.target.flat.data)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_learner_is_not_copied(copied):
    """Its parameters lie in one buffer: those of a copy would not, and it would train nothing."""
    with pytest.raises(FastDQNError, match="make another"):
        copied(Learner(network()))


def test_a_state_of_another_network_is_refused():
    state = Learner(network()).state_dict()
    with pytest.raises(CheckpointError, match=r"torso\.layers"):
        Learner(make_network((5,), 3, hidden_sizes=(16, 8))).load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"head"):
        Learner(network(dueling=True)).load_state_dict(state)
    with pytest.raises(CheckpointError, match="optimizer"):
        Learner(network(), optimizer="rmsprop").load_state_dict(state)


class Normed(nn.Module):
    """BatchNorm: statistics of the batch to learn, running ones to act and in the target."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_batch_norm_learns_in_train_mode_once_per_update(mode):
    torch.manual_seed(0)
    learner = Learner(Normed(), mode=mode, compile_backend="aot_eager", target_period_updates=2)
    b = batch()
    learner.update(b)
    norm = learner.network.layers[1]
    assert norm.num_batches_tracked == 1, "only the forward that learns counts"
    assert learner.target_network.layers[1].num_batches_tracked == 0
    assert learner.acting_network.layers[1].running_mean is norm.running_mean
    assert not learner.acting_network.training and not learner.target_network.training
    learner.update(b)
    target = learner.target_network.layers[1]
    assert torch.equal(target.running_mean, norm.running_mean), "copied with the target"


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this CPU has no bfloat16")
def test_bf16_is_close_to_fp32_and_keeps_masters():
    full = Learner(cnn(0), precision="fp32", learning_rate=1e-3)
    half = Learner(cnn(0), precision="bf16", learning_rate=1e-3)
    assert Learner(cnn(0)).precision == "bf16", "auto, for convolutions"
    assert Learner(network()).precision == "fp32", "auto, for vectors"
    for i in range(10):
        a, b = full.update(images(i)), half.update(images(i))
        assert b.loss.dtype == b.td_error.dtype == torch.float32
        assert b.loss.item() == pytest.approx(a.loss.item(), rel=0.05, abs=0.02)
    assert half.flat.data.dtype == torch.float32
    moved = (full.flat.data - Learner(cnn(0), precision="fp32").flat.data).norm()
    assert (full.flat.data - half.flat.data).norm() < 0.5 * moved


def test_refusals():
    with pytest.raises(ConfigError, match="mode = 'graph' needs a CUDA device"):
        Learner(network(), mode="graph")
    with pytest.raises(ConfigError, match="loss = 'l1'"):
        Learner(network(), loss="l1")
    with pytest.raises(ConfigError, match="optimizer = 'sgd'"):
        Learner(network(), optimizer="sgd")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            Learner(network(), device="cuda")


def test_the_learning_rate_can_change():
    learner = Learner(network(), learning_rate=0.0 + 1e-3)
    learner.set_learning_rate(0.0)
    before = learner.flat.data.clone()
    learner.update(batch())
    assert torch.equal(learner.flat.data, before)


# --- frozen parameters ---------------------------------------------------------------------------


def frozen(**kwargs):
    net = network(**kwargs)
    net.torso.layers[0].requires_grad_(False)
    return net


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_frozen_parameters_stay_and_the_others_learn_as_in_a_plain_loop(mode):
    start = frozen()
    net, target = copy.deepcopy(start), copy.deepcopy(start)
    learner = Learner(
        start, mode=mode, compile_backend="aot_eager", learning_rate=1e-2, max_grad_norm=0.05
    )
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-2)
    for i in range(5):
        plain_update(net, target, optimizer, batch(i), double=True, loss="huber", clip_norm=0.05)
        learner.update(batch(i))
    before, expected = target.state_dict(), net.state_dict()
    for name, value in learner.network.state_dict().items():
        if name.startswith("torso.layers.0"):
            assert torch.equal(value, before[name]), name
        else:
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
            assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_frozen_parameters_stay_in_a_compiled_launch(optimizer):
    options = {"updates_per_launch": 4, "optimizer": optimizer, "learning_rate": 1e-2}
    whole = Learner(frozen(), mode="compile", compile_backend="aot_eager", **options)
    plain = Learner(frozen(), mode="eager", **options)
    assert whole._fused is not None
    for learner in (whole, plain):
        learner.update_from(filled_replay(prioritized=False), 8, batch_size=8)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(value, plain.network.state_dict()[name], rtol=1e-4, atol=1e-6)
        stays = name.startswith("torso.layers.0")
        assert torch.equal(value, frozen().state_dict()[name]) == stays, name


def test_a_frozen_body_stays_in_bfloat16_too():
    start = cnn()
    start.torso.requires_grad_(False)
    before = copy.deepcopy(start.state_dict())
    learner = Learner(start, precision="bf16", learning_rate=1e-2)
    learner.update(images())
    changed = {n for n, v in learner.network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"head.q.weight", "head.q.bias"}


def test_a_network_that_is_frozen_whole_is_refused():
    with pytest.raises(ConfigError, match="Every parameter of the network is frozen; set requires"):
        Learner(network().requires_grad_(False))


# --- launches of several updates ------------------------------------------------------------------


def uniform_replay():
    return filled_replay(prioritized=False)


def test_a_launch_of_prioritized_updates_equals_them_one_by_one():
    replay, twin = filled_replay(), filled_replay()
    one, many = Learner(network()), Learner(network(), updates_per_launch=4)
    many.update_from(replay, 10, batch_size=16, beta=0.5)
    for _ in range(10):
        one.update_from(twin, 1, batch_size=16, beta=0.5)
    assert torch.equal(many.flat.data, one.flat.data)
    assert torch.equal(replay.tree.leaves, twin.tree.leaves)
    assert many.updates == one.updates == 10


def test_a_launch_of_uniform_updates_learns_from_one_draw():
    replay, twin = uniform_replay(), uniform_replay()
    many, one = Learner(network(), updates_per_launch=4), Learner(network())
    many.update_from(replay, 9, batch_size=8)  # 4 + 4 + 1
    for count in (4, 4, 1):
        drawn = twin.sample(count * 8)
        for i in range(count):
            one.update(Batch(*(x[i * 8 : (i + 1) * 8] for x in drawn)))
    assert torch.equal(many.flat.data, one.flat.data)
    assert many.updates == 9


@pytest.mark.parametrize("period", [1, 3, 6, 4, None])
def test_the_target_moves_on_time_within_launches(period):
    """As often and after the same updates as without launches."""

    def run(launch):
        learner = Learner(
            network(), target_period_updates=period, updates_per_launch=launch, learning_rate=1e-2
        )
        for times in (2, 5, 9, 4):
            learner.update_from(filled_replay(), times, batch_size=8)
        return learner

    whole, single = run(4), run(1)
    assert torch.equal(whole.target.flat.data, single.target.flat.data)
    assert torch.equal(whole.flat.data, single.flat.data)


@pytest.mark.parametrize(
    "options",
    [
        {"double": True},
        {"double": False, "loss": "mse", "max_grad_norm": 0.5},
        {"target_period_updates": None, "max_grad_value": 0.01},
        {"optimizer": "rmsprop", "optimizer_epsilon": 1e-2},
        {"optimizer": "rmsprop", "rmsprop_centred": False, "optimizer_epsilon": 1e-2},
        {"target_period_updates": 6},
        {"target_period_updates": 1, "target_tau": 0.1},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_a_compiled_launch_equals_its_updates_one_by_one(options):
    def run(**how):
        torch.manual_seed(0)
        learner = Learner(network(), learning_rate=1e-2, **options, **how)
        for times in (4, 9):
            result = learner.update_from(replay := uniform_replay(), times, batch_size=8)
        return learner, result, replay

    whole, result, _ = run(mode="compile", compile_backend="aot_eager", updates_per_launch=4)
    plain, expected, _ = run(mode="eager", updates_per_launch=4)
    assert (whole._fused is None) == (options.get("target_period_updates") == 1)
    torch.testing.assert_close(whole.flat.data, plain.flat.data, rtol=1e-4, atol=2e-6)
    for name, moment in plain._optimizer.moments.items():
        torch.testing.assert_close(whole._optimizer.moments[name], moment, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(result.td_error, expected.td_error, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(whole.statistics, plain.statistics, rtol=1e-3, atol=1e-4)
    assert whole.updates == plain.updates == 13


def test_a_compiled_launch_follows_the_learning_rate():
    learner = Learner(network(), mode="compile", compile_backend="aot_eager", updates_per_launch=2)
    replay = uniform_replay()
    learner.update_from(replay, 2, batch_size=8)
    learner.set_learning_rate(0.0)
    before = learner.flat.data.clone()
    learner.update_from(replay, 2, batch_size=8)
    assert torch.equal(learner.flat.data, before)


def test_inductor_compiles_a_launch_whole():
    """One smoke test with the real compiler."""
    whole = Learner(network(), mode="compile", updates_per_launch=2, learning_rate=1e-2)
    plain = Learner(network(), updates_per_launch=2, learning_rate=1e-2)
    for learner in (whole, plain):
        learner.update_from(uniform_replay(), 4, batch_size=8)
    torch.testing.assert_close(whole.flat.data, plain.flat.data, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("updates", "convolves", "compiler", "mode"),
    [
        (200_000, False, True, "compile"),
        (199_999, False, True, "eager"),
        (None, False, True, "eager"),
        (10**7, True, True, "eager"),
        (10**7, False, False, "eager"),
    ],
)
def test_auto_compiles_on_a_cpu_where_it_repays(updates, convolves, compiler, mode, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/c++" if compiler else None)
    cpu = torch.device("cpu")
    assert resolve_mode("auto", cpu, convolves=convolves, updates=updates) == mode
    assert resolve_mode("eager", cpu, convolves=convolves, updates=updates) == "eager"
    assert resolve_mode("compile", cpu, updates=updates, backend="aot_eager") == "compile"
    if compiler:
        assert resolve_mode("compile", cpu, convolves=convolves, updates=updates) == "compile"
        return
    with pytest.raises(ConfigError, match=r"mode = 'compile' needs a C\+\+ compiler"):
        Learner(network(), mode="compile")
