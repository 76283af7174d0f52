"""Descriptions of networks: plain data there and back, and what is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fastdqn.errors import ConfigError
from fastdqn.networks.cosine_embedding import CosineEmbedding
from fastdqn.networks.heads import DuelingHead, LinearHead
from fastdqn.networks.make import make_network
from fastdqn.networks.spec import NetworkSpec, resolve_torso
from fastdqn.networks.torsos import TORSOS

SPEC = NetworkSpec(
    frame_shape=(40, 44),
    num_actions=3,
    frame_stack=2,
    torso="nature",
    hidden_sizes=(16,),
    dueling=True,
    batch_norm=False,
    impala_width=1,
)
VECTORS = replace(
    SPEC, frame_shape=(4,), frame_stack=None, torso="mlp", hidden_sizes=(5, 6), batch_norm=True
)
SPECS = [SPEC, VECTORS, replace(SPEC, torso="impala", impala_width=2, dueling=False)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.torso)
def test_it_comes_back_from_json_and_makes_the_same_network(spec):
    again = NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    networks = []
    for one in (spec, again):
        torch.manual_seed(0)
        networks.append(one.build())
    assert str(networks[0]) == str(networks[1])
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert spec.describes(networks[0])


def test_by_hand():
    network = VECTORS.build()
    assert [(m.in_features, m.out_features) for m in network.torso.layers] == [(4, 5), (5, 12)]
    assert len(network.torso.norms) == 2 and type(network.head) is DuelingHead
    wide = SPECS[2].build()
    assert wide.torso.sections[0].conv.out_channels == 32
    assert type(wide.head) is LinearHead and wide.head.q.weight.shape == (3, 16)


def test_auto_is_resolved():
    assert resolve_torso("auto", (4, 36, 84)) == "nature"
    assert resolve_torso("auto", (35, 84)) == "small_cnn"
    assert resolve_torso("auto", None) == "mlp"
    images = ((4, 84, 84), (7, 7), None)
    assert all(resolve_torso(kind, image) == kind for kind in TORSOS for image in images)
    with pytest.raises(ConfigError, match="network = 'resnet' must be one of mlp, nature, small_"):
        make_network((4,), 2, kind="resnet")


@pytest.mark.parametrize(
    "changes",
    [{"hidden_sizes": (17,)}, {"dueling": False}, {"torso": "impala"}, {"num_actions": 4},
     {"frame_stack": 3}, {"hidden_sizes": (16, 16)}],
)  # fmt: skip
def test_another_network_is_not_described(changes):
    assert not replace(SPEC, **changes).describes(SPEC.build())
    assert not SPEC.describes(nn.Linear(3, 3))


@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ({"head": "c51"}, {"value_min": -10, "value_max": 10, "atoms": np.int64(51)}),
        ({"head": "c51"}, {"value_min": np.float64(-10.0), "value_max": np.float64(10.0)}),
        ({"head": "qr"}, {"quantiles": np.int64(200)}),
        ({"head": "iqn"}, {"iqn_cvar": 1, "iqn_policy_samples": np.int64(32)}),
        ({"noisy": True, "noisy_sigma": 1.0}, {"noisy_sigma": 1}),
    ],
    ids=["whole support", "numpy's support", "quantiles", "share", "sigma"],
)
def test_a_number_of_another_type_describes_the_same_network(changes, whole):
    network = make_network(
        VECTORS.frame_shape, VECTORS.num_actions, hidden_sizes=VECTORS.hidden_sizes,
        dueling=True, batch_norm=True, **{**changes, **whole},
    )  # fmt: skip
    assert replace(VECTORS, **changes).describes(network)


def test_a_network_that_computes_something_else_with_the_same_layers_is_not_described():
    """Where a checkpoint took it for described, the loaded policy would act otherwise."""
    implicit = replace(VECTORS, head="iqn", iqn_cosines=8, iqn_policy_samples=4)
    network = implicit.build()
    assert implicit.describes(network)
    network.embedding = CosineEmbedding(network.torso.body_features, 8, 4, first=0)
    assert not implicit.describes(network)

    padded = replace(SPEC, frame_shape=(38, 38), padding="same")
    assert padded.describes(padded.build())
    wider = replace(padded, frame_shape=(40, 40))  # as many features, and other borders
    shapes = [{n: p.shape for n, p in one.build().named_parameters()} for one in (padded, wider)]
    assert shapes[0] == shapes[1]
    assert not wider.describes(padded.build())


NO_SIZE = [0, -1, 2**31 + 1, 10**4000, 1.0, True, None, "4", [4]]
WRONG = {
    "frame_shape": [[size] for size in NO_SIZE] + [4, None, "44", {"0": 4}, [1] * 9],
    "num_actions": NO_SIZE,
    "frame_stack": [size for size in NO_SIZE if size is not None],
    "torso": ["auto", "resnet", "", None, 1, ["mlp"], {}],
    "hidden_sizes": [[size] for size in NO_SIZE] + [16, None, "16", [1] * 1_001],
    "dueling": [0, 1, None, "false", []],
    "batch_norm": [0, 1, None, "false", []],
    "impala_width": NO_SIZE,
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_refused_by_name(name):
    for value in WRONG[name]:
        with pytest.raises(ConfigError, match=rf"^network\.{name} = .* is no {name}\.$") as error:
            NetworkSpec.from_dict({**SPEC.to_dict(), name: value})
        assert len(str(error.value)) < 400
    rest = {k: v for k, v in SPEC.to_dict().items() if k != name}
    with pytest.raises(ConfigError, match=rf"^network lacks '{name}'; it needs frame_shape, .*\.$"):
        NetworkSpec.from_dict(rest)


def test_a_support_that_ends_before_it_starts_is_refused():
    for low, high in ((1.0, 1.0), (2, -2)):
        with pytest.raises(ConfigError, match=r"^network\.value_min = .* must be below "):
            NetworkSpec.from_dict({**SPEC.to_dict(), "value_min": low, "value_max": high})
    with pytest.raises(ConfigError, match=r"^network\.value_min = 1\.0 leaves 51 atoms"):
        NetworkSpec.from_dict({**SPEC.to_dict(), "value_min": 1.0, "value_max": 1.000001})


def test_what_is_no_description_is_refused():
    with pytest.raises(ConfigError, match=r"^network has a field that no network has, 'depth'; "):
        NetworkSpec.from_dict({**SPEC.to_dict(), "depth": 3})
    for data in (None, [], "nature", 3):
        with pytest.raises(ConfigError, match=r"^network = .* must be an object of "):
            NetworkSpec.from_dict(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_sizes": (), "dueling": False}, r"hidden_sizes = \(\) must be one or more sizes"),
        ({"hidden_sizes": ()}, "dueling = True needs a hidden layer"),
    ],
)
def test_an_mlp_needs_layers(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(VECTORS, **changes).build()
