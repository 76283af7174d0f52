"""Noisy layers against a slow transcription and TorchRL's; what noise a network takes."""

import math

import pytest
import torch
from helpers import menu_oracle
from helpers.head_details import of_head
from helpers.planted import plant
from torch import nn

from fastdqn.networks import noisy_linear
from fastdqn.networks.draws import Draw, draw_all
from fastdqn.networks.make import make_network
from fastdqn.networks.noisy_linear import NoisyLinear


def normal(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def layer_of(inputs=4, outputs=3):
    """In float64, nothing of it regular."""
    torch.manual_seed(0)
    layer = noisy_linear.NoisyLinear(inputs, outputs).double()
    with torch.no_grad():
        layer.weight_sigma.copy_(normal(outputs, inputs, seed=1))
        layer.bias_sigma.copy_(normal(outputs, seed=2))
    return layer


def noise_of(layer, rows=None, seed=3):
    return {
        name: normal(*draw.shape, seed=seed + i)
        for i, (name, draw) in enumerate(layer.draws(rows).items())
    }


def by_oracle(layer, x, noise_in, noise_out):
    parts = (layer.weight, layer.bias, layer.weight_sigma, layer.bias_sigma)
    return menu_oracle.noisy_linear(
        x.tolist(), *(part.tolist() for part in parts), noise_in.tolist(), noise_out.tolist()
    )


def test_by_hand():
    layer = NoisyLinear(2, 1).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.bias.fill_(3.0)
        layer.weight_sigma.copy_(torch.tensor([[0.5, 0.25]]))
        layer.bias_sigma.fill_(0.1)
    # f(4, -9) = (2, -3), f(16) = 4: weights 1 + 0.5 * 8 and 2 - 0.25 * 12, bias 3 + 0.1 * 4
    noise = {"noise.in": torch.tensor([4.0, -9.0]), "noise.out": torch.tensor([16.0])}
    x = torch.tensor([[1.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    assert layer(x, noise).flatten().tolist() == pytest.approx([5 - 1 + 3.4, 10 + 3.4], rel=1e-6)
    assert layer(x).flatten().tolist() == [6.0, 5.0]


@pytest.mark.parametrize("batch", [1, 5])
def test_one_draw_for_all_rows_is_the_formula(batch):
    layer, x = layer_of(), normal(batch, 4)
    noise = noise_of(layer)
    found = layer(x, noise)
    for row, output in zip(x, found.tolist(), strict=True):
        expected = by_oracle(layer, row, noise["noise.in"], noise["noise.out"])
        assert output == pytest.approx(expected, rel=1e-9, abs=1e-12)


def check_rows(batch, rows):
    layer, x = layer_of(), normal(batch, 4)
    noise = noise_of(layer, rows)
    found = layer(x, noise)
    for b in range(batch):
        own = b // (batch // rows)  # rows that share a draw follow one another
        alone = {name: values[own] for name, values in noise.items()}
        torch.testing.assert_close(found[b : b + 1], layer(x[b : b + 1], alone))
        expected = by_oracle(layer, x[b], alone["noise.in"], alone["noise.out"])
        assert found[b].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("batch", "rows"), [(1, 1), (6, 6), (6, 3), (6, 1), (6, 2)])
def test_noise_of_each_row_is_that_row_by_itself(batch, rows):
    check_rows(batch, rows)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("noise.sign() * noise.abs().sqrt()", "noise"),
        ("noise.sign() * noise.abs().sqrt()", "noise.abs().sqrt()"),
        ("mean + outward *", "mean +"),
        ("input * inward", "input"),
        ("self.weight_sigma, self.bias_sigma)", "self.weight_sigma, self.bias_sigma * 0)"),
        (".expand(-1, rows.shape[0] // noise.shape[0], -1).flatten(0, 1)",
         ".expand(-1, rows.shape[0] // noise.shape[0], -1).transpose(0, 1).flatten(0, 1)"),
    ],
    ids=["no f", "no sign", "no noise out", "no noise in", "bias without noise", "interleaved"],
)  # fmt: skip
def test_a_planted_fault_is_found(right, wrong, monkeypatch):
    plant(monkeypatch, noisy_linear, right, wrong)
    with pytest.raises(AssertionError):
        check_rows(6, 2)


@pytest.mark.parametrize("rows", [None, 5])
def test_without_deviations_or_without_noise_it_is_linear(rows):
    x = normal(5, 4)
    silent = NoisyLinear(4, 3, sigma=0.0).double()
    plain = nn.functional.linear(x, silent.weight, silent.bias)
    torch.testing.assert_close(silent(x, noise_of(silent, rows)), plain)
    layer = layer_of()
    mean = nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), mean)
    zeros = {name: torch.zeros_like(values) for name, values in noise_of(layer, rows).items()}
    torch.testing.assert_close(layer(x, zeros), mean)
    assert not torch.allclose(layer(x, noise_of(layer, rows)), mean)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_mode_of_the_module_decides_nothing(mode):
    layer, x = layer_of(), normal(2, 4)
    expected = layer(x, noise_of(layer)), layer(x)
    getattr(layer, mode)()
    assert torch.equal(layer(x, noise_of(layer)), expected[0])
    assert torch.equal(layer(x), expected[1])


def test_gradients_are_those_of_finite_differences():
    layer = layer_of()
    names, parameters = zip(*layer.named_parameters(), strict=True)
    for rows in (None, 2):
        noise = noise_of(layer, rows)

        def run(x, *values, noise=noise):
            named = dict(zip(names, values, strict=True))
            return torch.func.functional_call(layer, named, (x, noise))

        x = normal(4, 4).requires_grad_()
        assert torch.autograd.gradcheck(
            run, (x, *(p.detach().requires_grad_() for p in parameters))
        )
    assert set(names) == {"weight", "bias", "weight_sigma", "bias_sigma"}


def test_torchrl_has_the_same_forward():
    modules = pytest.importorskip("torchrl.modules")
    torch.manual_seed(0)
    theirs = modules.NoisyLinear(6, 5, std_init=0.4, use_exploration_type=False).train()
    ours = NoisyLinear(6, 5)
    with torch.no_grad():
        for mine, other in (
            (ours.weight, theirs.weight_mu), (ours.weight_sigma, theirs.weight_sigma),
            (ours.bias, theirs.bias_mu), (ours.bias_sigma, theirs.bias_sigma),
        ):  # fmt: skip
            mine.copy_(other)
    # Theirs keeps f(e_out) f(e_in)^T and f(e_out).
    noise = {name: torch.randn(draw.shape) for name, draw in ours.draws().items()}
    inward, outward = (e.sign() * e.abs().sqrt() for e in noise.values())
    theirs.weight_epsilon.copy_(outward.outer(inward))
    theirs.bias_epsilon.copy_(outward)
    x = torch.randn(7, 6)
    torch.testing.assert_close(ours(x, noise), theirs(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours(x), theirs.eval()(x), rtol=1e-5, atol=1e-6)


def test_first_parameters():
    torch.manual_seed(0)
    layer = NoisyLinear(25, 400, sigma=0.3)
    for mean in (layer.weight, layer.bias):
        assert mean.abs().max() <= 1 / 5 and mean.abs().max() > 0.19
        assert mean.std().item() == pytest.approx(2 / 5 / math.sqrt(12), rel=0.1)
    # Of the inputs for both, where TorchRL and Kaixhin take the outputs for the bias.
    for deviation in (layer.weight_sigma, layer.bias_sigma):
        torch.testing.assert_close(deviation, torch.full_like(deviation, 0.3 / 5))
    assert not list(layer.buffers())


# --- in a network --------------------------------------------------------------------------------


def noisy(**options):
    torch.manual_seed(0)
    return make_network((3,), 2, hidden_sizes=(7, 6), noisy=True, **options)


def random_of(shapes, seed=0):
    drawn = draw_all(list(shapes.values()), torch.Generator().manual_seed(seed))
    return dict(zip(shapes, drawn, strict=True))


def test_the_noise_of_a_network_has_the_names_of_its_layers():
    found = noisy().random_shapes(4)
    hidden = next(
        name for name, layer in noisy().torso.named_modules() if isinstance(layer, NoisyLinear)
    )
    assert found == {
        f"torso.{hidden}.in": Draw("normal", (7,)), f"torso.{hidden}.out": Draw("normal", (6,)),
        "head.q.in": Draw("normal", (6,)), "head.q.out": Draw("normal", (2,)),
    }  # fmt: skip
    assert noisy().acting_shapes(5) == {
        name: Draw("normal", (5, *draw.shape)) for name, draw in found.items()
    }


@pytest.mark.parametrize("head", ["scalar", "c51", "qr", "iqn"])
@pytest.mark.parametrize("dueling", [False, True])
def test_each_env_acts_by_its_own_noise(head, dueling):
    sizes = {"atoms": 5, "quantiles": 4, "iqn_policy_samples": 3, "iqn_cosines": 2}
    network = noisy(head=head, dueling=dueling, **of_head(head, sizes))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    randoms = random_of(network.acting_shapes(4))
    together = network(x, randoms)
    for i in range(4):
        alone = network(x[i : i + 1], {name: values[i : i + 1] for name, values in randoms.items()})
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-6)
    other = network(x, random_of(network.acting_shapes(4), seed=1))
    assert (together != other).flatten(1).any(1).all()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize("head", ["scalar", "iqn"])
def test_rows_of_a_batch_share_their_noise_in_an_update(head):
    network = noisy(head=head, **of_head(head, {"iqn_cosines": 2}))
    x = torch.randn(1, 3).expand(4, -1)
    randoms = random_of(network.random_shapes(4, 5) if head == "iqn" else network.random_shapes(4))
    if "tau" in randoms:
        randoms["tau"] = randoms["tau"][:1].expand(4, -1)
    output = network(x, randoms)
    torch.testing.assert_close(output, output[:1].expand_as(output))


def test_every_layer_behind_the_body_is_noisy_and_none_before():
    network = noisy(dueling=True)
    found = [name for name, layer in network.named_modules() if isinstance(layer, NoisyLinear)]
    plain = [
        name for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and not isinstance(layer, NoisyLinear)
    ]  # fmt: skip
    assert len(found) == 3 and found[-2:] == ["head.value", "head.advantage"]
    assert len(plain) == 1 and plain[0].startswith("torso.")
    used = network(torch.ones(2, 3), random_of(network.random_shapes(2)))
    assert all(g is not None for g in torch.autograd.grad(used.sum(), list(network.parameters())))
