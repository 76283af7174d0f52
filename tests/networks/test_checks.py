"""A caller's network: what is trained as it stands, what is refused, and what the trial leaves."""

import copy
import threading

import numpy as np
import pytest
import torch
from helpers.short_runs import envs, tiny
from torch import nn

import fastdqn
from fastdqn import Batch, Learner, train
from fastdqn.errors import ConfigError
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.trial import try_network

SHAPE, ACTIONS = (6,), 5


def batch(size=8, shape=SHAPE, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def frames():
        return (torch.rand((size, *shape), generator=generator) * 255).to(dtype)

    action = torch.randint(0, ACTIONS, (size,), generator=generator)
    reward, one = torch.rand(size, generator=generator), torch.ones(size)
    return Batch(frames(), action, reward, 0.9 * one, frames(), one, torch.arange(size))


class Own(nn.Module):
    """A layer, and a forward of it."""

    def __init__(self, forward=None, inputs=6, **more):
        super().__init__()
        self.layer = nn.Linear(inputs, ACTIONS)
        self.how = forward or (lambda own, x: own.layer(x))
        for name, value in more.items():
            setattr(self, name, value)

    def forward(self, observation):
        return self.how(self, observation)


class KeepsAFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, ACTIONS)
        self.how = lambda x: self.layer(x)

    def forward(self, observation):
        return self.how(observation)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(6, 4, batch_first=True), nn.Linear(4, ACTIONS)

    def forward(self, observation):
        return self.head(self.cell(observation[:, None])[0][:, -1])


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(3, ACTIONS, sparse=True)

    def forward(self, observation):
        return self.table(observation[:, 0].long().clamp(0, 2))


def tied():
    network = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, ACTIONS))
    network[2].weight = network[0].weight
    return network


def half_frozen():
    network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, ACTIONS))
    network[0].requires_grad_(False)
    return network


def hooked():
    network = nn.Linear(6, ACTIONS)
    network.register_forward_hook(lambda module, given, output: 2 * output)
    return network


def norm(kind):
    return nn.Sequential(kind(nn.Linear(6, 8)), nn.Linear(8, ACTIONS))


WORK = {
    "half frozen": half_frozen,
    "tied": tied,
    "hooked": hooked,
    "dropout": lambda: nn.Sequential(nn.Dropout(), nn.Linear(6, ACTIONS)),
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, ACTIONS)),
    "recurrent": Recurrent,
    "weight norm": lambda: norm(nn.utils.parametrizations.weight_norm),
    "spectral norm": lambda: norm(nn.utils.parametrizations.spectral_norm),
    "in place, but not its input": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, ACTIONS)
    ),
    "compiled in place": lambda: (n := nn.Linear(6, ACTIONS)).compile(backend="eager") or n,
}


@pytest.mark.parametrize("make", WORK.values(), ids=WORK)
def test_it_is_trained_as_it_stands(make):
    network = make()
    frozen = [p.detach().clone() for p in network.parameters() if not p.requires_grad]
    learner = Learner(network, learning_rate=0.1)
    before = learner.flat.data.clone()
    for i in range(2):
        result = learner.update(batch(seed=i))
    assert torch.isfinite(result.loss) and not torch.equal(learner.flat.data, before)
    after = [p for p in network.parameters() if not p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(frozen, after, strict=True))


class Spare(Own):
    """Q does not depend on a layer of it."""

    def __init__(self):
        super().__init__(spare=nn.Linear(2, 2))


@pytest.mark.parametrize(
    "options",
    [{}, {"optimizer": "rmsprop"}, {"mode": "compile", "compile_backend": "aot_eager"}],
)
def test_what_q_does_not_depend_on_stays_as_it_is(options):
    options = {"learning_rate": 0.1, "max_grad_norm": 1.0, **options}
    network = Spare()
    spare, other = copy.deepcopy(network.spare), copy.deepcopy(network.layer)
    learner = Learner(network, **options)
    with pytest.warns(UserWarning, match=r"computes Q without spare\.weight, spare\.bias; what"):
        learner.update(batch())
    assert torch.equal(network.spare.weight, spare.weight)
    plain = Learner(other, **options)  # moves as if the layer were not there
    plain.update(batch())
    assert torch.equal(network.layer.weight, other.weight)


def in_place(own, x):
    return own.layer(x.div_(255))


REFUSED = {
    "class": (lambda: Own, r"network = Own is a class; pass an instance of it: Own\(...\)"),
    "function": (lambda: lambda x: x, "no torch.nn.Module but a function; pass a module"),
    "text": (lambda: "mlp", "no torch.nn.Module but str; pass a module"),
    "parallel": (lambda: nn.DataParallel(Own()), r"in DataParallel, .*: network\.module"),
    "no parameters": (nn.Identity, "no parameters to train; .* nn.ModuleList"),
    "frozen": (lambda: Own().requires_grad_(False), "is frozen; set requires_grad = True"),
    "float64": (lambda: Own().double(), r"'layer\.weight' is torch\.float64; .* network\.float"),
    "bfloat16": (lambda: Own().bfloat16(), r"is torch\.bfloat16; make it float32"),
    "complex": (
        lambda: Own(extra=nn.Parameter(torch.zeros(2, dtype=torch.complex64))),
        r"'extra' is torch\.complex64; .* torch\.view_as_real",
    ),
    "integers": (
        lambda: Own(extra=nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)),
        r"'extra' is torch\.int64, .* register_buffer",
    ),
    "meta": (
        lambda: Own(extra=nn.Parameter(torch.zeros(2, device="meta"))),
        r"'extra' is on the meta device .* network\.to_empty",
    ),
    "tuple": (lambda: Own(lambda own, x: (own.layer(x), None)), "makes tuple of"),
    "dict": (lambda: Own(lambda own, x: {"q": own.layer(x)}), "makes dict of"),
    "None": (lambda: Own(lambda own, x: None), "makes NoneType of"),
    "no batch": (lambda: Own(lambda own, x: own.layer(x)[0]), r"makes \[5\] of"),
    "squeezed": (lambda: Own(lambda own, x: own.layer(x).squeeze()), r"makes \[5\] of an obs"),
    "one too many": (lambda: Own(lambda own, x: own.layer(x)[..., None]), r"makes \[1, 5, 1\] of"),
    "one of all": (
        lambda: Own(lambda own, x: own.layer(x).mean(0, keepdim=True)),
        r"makes \[1, 5\] of observations of shape \(2, 6\)",
    ),
    "integers as Q": (lambda: Own(lambda own, x: own.layer(x).long()), "without a gradient"),
    "inputs": (lambda: Own(inputs=7), r"does not take an observation of shape \(1, 6\) float32"),
    "in place": (lambda: Own(in_place), r"changes in place .* observation\.clone\(\)"),
    "ReLU in place": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), Own()), r"place \(nn\.ReLU\(inplace=True\)"
    ),
    "detached": (lambda: Own(lambda own, x: own.layer(x).detach()), "without a gradient; leave"),
    "sparse": (Table, r"sparse gradient of 'table\.weight'; .*sparse=False"),
    "in a list": (
        lambda: Own(lambda own, x: own.layer(own.others[0](x)), others=[nn.Linear(6, 6)]),
        r"does not have in its parameters\(\), .* nn\.ModuleList",
    ),
    "a function of the first": (KeepsAFunction, "keeps functions that know its layers .* methods"),
    "a lock": (lambda: Own(lock=threading.Lock()), "cannot be copied .* keep locks, files"),
    "backward": (
        lambda: Own(lambda own, x: (y := own.layer(x).sigmoid()) * y.add_(1)),
        r"has no gradient \(RuntimeError: .*in-?place",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_in_one_sentence(make, said):
    with pytest.raises(ConfigError, match=said) as refused:
        Learner(make()).update(batch())
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")


@pytest.mark.parametrize("name", ["class", "a lock", "in a list", "in place", "backward"])
def test_a_run_refuses_it_before_anything_is_made(tmp_path, name, monkeypatch):
    monkeypatch.setattr(fastdqn.training.parts, "ReplayBuffer", _Unmade)
    make, said = REFUSED[name]
    given = envs(shape=SHAPE)
    with pytest.raises(ConfigError, match=said):
        train(tiny(tmp_path / "a"), envs=given, network=make())
    assert given.seeds == [] and not (tmp_path / "a").exists()


class _Unmade:
    plan = staticmethod(fastdqn.ReplayBuffer.plan)

    def __init__(self, *args, **kwargs):
        raise AssertionError("allocated")


# --- advice --------------------------------------------------------------------------------------


def conv(channels):
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.Flatten(), nn.LazyLinear(ACTIONS))


def shown(network, shape):
    network(torch.zeros((1, *shape)))
    return network


READINGS = {
    "bytes": (lambda: nn.Linear(6, ACTIONS), (6,), torch.uint8, "observation.float() / 255"),
    "stacks": (lambda: nn.Linear(12, ACTIONS), (2, 6), torch.float32, "observation.flatten(1)"),
    "both": (
        lambda: nn.Linear(12, ACTIONS), (2, 6), torch.uint8, "observation.flatten(1).float() / 255"
    ),
    "channels": (
        lambda: shown(conv(3), (3, 8, 9)), (8, 9, 3), torch.float32,
        "observation.permute(0, 3, 1, 2)",
    ),
    "stacks of channels": (
        lambda: shown(conv(6), (6, 8, 9)), (2, 3, 8, 9), torch.float32, "observation.flatten(1, 2)"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "dtype", "text"), READINGS.values(), ids=READINGS)
def test_where_another_form_of_the_observation_helps_it_is_named(make, shape, dtype, text):
    network = make()
    with pytest.raises(ConfigError) as refused:
        try_network(network, shape, dtype, ACTIONS)
    assert f"let its forward begin with observation = {text}." in str(refused.value)
    layout, _, scale = text.partition(".float()")
    calls = {
        "observation": lambda x: x,
        "observation.flatten(1)": lambda x: x.flatten(1),
        "observation.flatten(1, 2)": lambda x: x.flatten(1, 2),
        "observation.permute(0, 3, 1, 2)": lambda x: x.permute(0, 3, 1, 2),
    }

    def advised(own, x):
        return own.layer(calls[layout](x).float() / (255 if scale else 1))

    mended = Own(advised)
    mended.layer = network
    assert try_network(mended, shape, dtype, ACTIONS) == ACTIONS


def test_a_batch_of_one_is_too_small_for_batch_normalisation():
    network = WORK["batch norm"]()
    with pytest.raises(ConfigError, match=r"in training mode .*; use batch_size = 2 or more\."):
        Learner(network).update(batch(1))
    Learner(network).update(batch(2))


def test_networks_in_bfloat16():
    rough = QNetwork(nn.Linear(6, 8), nn.Linear(8, ACTIONS))
    with pytest.raises(ConfigError, match=r"precision = 'fp32', or .* dtype of their weights"):
        Learner(rough, precision="bf16").update(batch())
    Learner(rough, precision="fp32").update(batch())

    class Casts(nn.Linear):
        def forward(self, observation):
            return super().forward(observation.to(self.weight.dtype))

    for network in (QNetwork(Casts(6, 8), nn.Linear(8, ACTIONS)), Own()):  # a twin, and autocast
        learner = Learner(network, precision="bf16", learning_rate=0.1)
        before = learner.flat.data.clone()
        learner.update(batch())
        assert not torch.equal(learner.flat.data, before)


def test_of_a_compiled_module_the_one_inside_is_trained(tmp_path):
    inside = nn.Linear(6, ACTIONS)
    before = inside.weight.detach().clone()
    with pytest.warns(UserWarning, match="was compiled: the module inside is trained"):
        compiled = torch.compile(inside, backend="eager")
        run = train(tiny(tmp_path / "a"), envs=envs(shape=SHAPE), network=compiled)
    assert run.policy.network.state_dict().keys() == {"weight", "bias"}
    assert not torch.equal(inside.weight, before)


# --- what it leaves ------------------------------------------------------------------------------


class Counts(nn.Module):
    """Everything that a forward may change."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, ACTIONS)
        )
        self.register_buffer("calls", torch.zeros(()))
        self.last = None

    def forward(self, observation):
        self.calls += 1
        self.last = observation
        return self.layers(observation + torch.rand_like(observation))


def test_the_trial_leaves_everything_as_it_was():
    network = Counts()
    network.layers[2].eval()
    network.layers[0].weight.grad = torch.full((8, 6), 3.0)
    modes = [module.training for module in network.modules()]
    before = copy.deepcopy(network.state_dict())
    state, numbers = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    with torch.no_grad():  # whatever the caller's mode is
        assert try_network(network, SHAPE, torch.float32, ACTIONS) == ACTIONS
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.last is None and (network.layers[0].weight.grad == 3).all()
    assert all(p.grad is None for p in network.layers[3].parameters())


def test_lazy_layers_get_their_shapes_and_nothing_else():
    network = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(ACTIONS))
    with pytest.raises(ConfigError, match=r"'0\.weight' has no shape yet, .* call the network"):
        Learner(network)
    state = torch.random.get_rng_state()
    try_network(network, SHAPE, torch.float32, ACTIONS)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert network[0].weight.shape == (8, 6) and network.training
    assert network[1].num_batches_tracked == 0 and (network[1].running_mean == 0).all()
    Learner(network).update(batch())


def test_random_numbers_that_a_network_asks_for_are_part_of_it():
    from helpers.random_network import RandomQ

    class Noise(RandomQ):
        def __init__(self):
            super().__init__(6, ACTIONS)
            self.sigma = nn.Parameter(torch.ones(8))

        def forward(self, observation, randoms=None):
            if randoms is not None:  # else Q does not depend on sigma
                randoms = {**randoms, "shift": self.sigma * randoms["shift"]}
            return super().forward(observation, randoms)

    Learner(Noise()).update(batch())  # without a warning
