"""Every network leaves as a file that gives the same Q, by name and for any batch."""

import dataclasses
import json
import warnings

import pytest
import torch

from fastdqn.acting.policy import Policy
from fastdqn.frame_format import FrameFormat
from fastdqn.networks.spec import NetworkSpec
from fastdqn.sharing import network_file
from fastdqn.sharing.export import export_policy
from fastdqn.sharing.network_file import METADATA_FILE
from fastdqn.spaces import Spaces

ACTIONS = 3
PICTURES = ((36, 36), 4, "uint8", FrameFormat(True, 255))
VECTORS = ((4,), None, "float32", FrameFormat(False))
PLAIN = {"hidden_sizes": (32,), "dueling": False, "batch_norm": False, "impala_width": 1}
PACKED = FrameFormat(False, 255, (3, 2), (3, 16, 16))
PACKED_ROW = 3 * 16 * 16 + 4 * (2 + 4)
CASES = {
    "mlp": (VECTORS, {"torso": "mlp"}),
    "mlp, normalised, stack": (
        ((4,), 3, "float32", FrameFormat(False)), {"torso": "mlp", "normalize": True}
    ),
    "mlp, categories": (
        ((4,), None, "float32", FrameFormat(False, 1, (5, 2))), {"torso": "mlp"}
    ),
    "mlp, batch norm": (VECTORS, {"torso": "mlp", "batch_norm": True}),
    "mlp, noisy, dueling": (VECTORS, {"torso": "mlp", "noisy": True, "dueling": True}),
    "mlp, c51": (VECTORS, {"torso": "mlp", "head": "c51", "atoms": 11}),
    "mlp, iqn": (VECTORS, {"torso": "mlp", "head": "iqn"}),
    "nature, qr": (PICTURES, {"torso": "nature", "head": "qr", "quantiles": 7}),
    "nature, iqn, dueling, noisy": (
        PICTURES, {"torso": "nature", "head": "iqn", "dueling": True, "noisy": True}
    ),
    "impala": (PICTURES, {"torso": "impala"}),
    "small_resnet": (PICTURES, {"torso": "small_resnet", "layer_norm": True}),
    "batchnorm_cnn": (
        ((3, 40, 40), None, "uint8", FrameFormat(True, 255)),
        {"torso": "batchnorm_cnn", "hidden_sizes": ()},
    ),
    "der": (PICTURES, {"torso": "der", "padding": "same"}),
    "dictionary": (
        ((PACKED_ROW,), 2, "uint8", PACKED),
        {"torso": "small_cnn", "head": "qr", "quantiles": 5, "normalize": True},
    ),
    "dictionary of floats": (
        ((3 * 16 * 16 + 6,), None, "float32", dataclasses.replace(PACKED, divisor=1)),
        {"torso": "small_cnn"},
    ),
}  # fmt: skip


def policy_of(name):
    (shape, stack, dtype, format), settings = CASES[name]
    torch.manual_seed(0)
    spec = NetworkSpec(
        frame_shape=shape, num_actions=ACTIONS, frame_stack=stack, frame_dtype=dtype,
        frame_format=format, **{**PLAIN, **settings},
    )  # fmt: skip
    network = spec.build()
    normalizer = getattr(network.encoder, "normalizer", None)
    if normalizer is not None:
        normalizer.add(3 + 5 * torch.randn(100, len(normalizer.mean)))
    spaces = Spaces(shape, dtype, format, ACTIONS, 1, stack, "zero")
    return Policy(network.eval().requires_grad_(False), spaces=spaces)


def export(name, tmp_path, format, count=200):
    path = tmp_path / {"onnx": "q.onnx", "torch-export": "q.pt2"}[format]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = export_policy(
            policy_of(name), path, format=format, metadata={"env_id": "Some-v0"}, observations=count
        )
    return path, done


def check(name, tmp_path, format, count=200):
    path, done = export(name, tmp_path, format, count)
    assert done.agreement.holds and done.agreement.observations == count
    assert done.agreement.largest_difference < 1e-4
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    return path, done


FAST = ["mlp, normalised, stack", "mlp, iqn", "dictionary"]


@pytest.mark.parametrize("name", FAST)
def test_torch_export(name, tmp_path):
    check(name, tmp_path, "torch-export")


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch-export"])
@pytest.mark.parametrize("name", CASES)
def test_every_network_in_every_format(name, format, tmp_path):
    check(name, tmp_path, format, 1_000)


@pytest.mark.slow
def test_a_file_says_what_it_is_and_nothing_of_this_machine(tmp_path):
    import onnxruntime

    path, done = check("dictionary", tmp_path, "onnx")
    assert str(done) == (
        "image uint8 [B, 2, 3, 16, 16], vector float32 [B, 2, 6] -> q_values float32 [B, 3]"
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(x.name, x.shape, x.type) for x in session.get_inputs()] == [
        ("image", ["batch", 2, 3, 16, 16], "tensor(uint8)"),
        ("vector", ["batch", 2, 6], "tensor(float)"),
    ]
    assert [(x.name, x.shape) for x in session.get_outputs()] == [("q_values", ["batch", 3])]
    said = session.get_modelmeta().custom_metadata_map
    assert said["env_id"] == "Some-v0" and said["action_start"] == "1"
    assert json.loads(said["frame_stack"]) == 2
    assert [each["categories"] for each in json.loads(said["inputs"])] == [[], [3, 2]]
    program, _ = export("dictionary", tmp_path, "torch-export")
    for file in (path, program):
        assert b"exported_network.py" not in file.read_bytes()


def test_the_metadata_of_a_program_is_json(tmp_path):
    path, _ = check("mlp", tmp_path, "torch-export")
    files = {METADATA_FILE: ""}
    torch.export.load(str(path), extra_files=files)
    said = json.loads(files[METADATA_FILE])
    assert said["env_id"] == "Some-v0" and said["frame_stack"] == "null"


def test_a_file_that_disagrees_is_not_kept(tmp_path, monkeypatch):
    write = network_file.write_torch_export

    def planted(network, metadata, path):
        run = write(network, metadata, path)
        return lambda arrays: run(arrays).flip(1)

    monkeypatch.setitem(network_file.WRITERS, "torch-export", planted)
    old = tmp_path / "q.pt2"
    old.write_text("an older one")
    _, done = export("mlp", tmp_path, "torch-export")
    assert not done.agreement.holds and done.agreement.same_actions < 200
    assert old.read_text() == "an older one" and len(list(tmp_path.iterdir())) == 1
