"""Networks leave for other programs: torch.export, traces and both ONNX exporters, in float32."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch

import fastdqn
from fastdqn.config.config import Config
from fastdqn.networks.make import make_network
from fastdqn.networks.onednn import _WORTH_IT, Linear, has_conv_relu

ACTIONS = 5
# Of one frame, stack, bytes or floats, network. Wide enough that 1,000 rows go through oneDNN.
NETWORKS = {
    "mlp": ((4,), None, False, {"kind": "mlp", "hidden_sizes": (64, 48)}),
    "mlp, batch norm, stack": (
        (4,), 3, False, {"kind": "mlp", "hidden_sizes": (64, 48), "batch_norm": True}
    ),
    "mlp, bytes, dueling": (
        (6, 6), 2, True, {"kind": "mlp", "hidden_sizes": (64,), "dueling": True}
    ),
    "nature": ((36, 40), 4, True, {"kind": "nature", "hidden_sizes": (64,)}),
    "nature, colours, odd width, dueling": (
        (3, 36, 41), 2, True, {"kind": "nature", "hidden_sizes": (64,), "dueling": True}
    ),
    "nature, floats": ((1, 36, 36), None, False, {"kind": "nature", "hidden_sizes": (64,)}),
    "impala, dueling": (
        (12, 13), 4, True, {"kind": "impala", "hidden_sizes": (64,), "dueling": True}
    ),
    "impala, colours": ((3, 12, 12), 2, True, {"kind": "impala", "hidden_sizes": (64,)}),
    "small_resnet": ((12, 13), 4, True, {"kind": "small_resnet", "hidden_sizes": (64,)}),
    "der, padded, atoms, noisy": (
        (36, 36), 2, True,
        {"kind": "der", "hidden_sizes": (32,), "padding": "same", "head": "c51", "noisy": True},
    ),
    "mlp, implicit quantiles": (
        (4,), None, False, {"kind": "mlp", "hidden_sizes": (32, 16), "head": "iqn"}
    ),
    "batchnorm_cnn": ((3, 29, 30), None, True, {"kind": "batchnorm_cnn", "hidden_sizes": ()}),
    "batchnorm_cnn, floats, dueling": (
        (29, 29), 2, False, {"kind": "batchnorm_cnn", "hidden_sizes": (64,), "dueling": True}
    ),
}  # fmt: skip
AT_FULL_SIZE = {
    "mlp": ((8,), None, False, {"kind": "mlp", "hidden_sizes": (256, 256)}),
    "nature": ((84, 84), 4, True, {"kind": "nature", "hidden_sizes": (512,)}),
    "nature, dueling": (
        (84, 84), 4, True, {"kind": "nature", "hidden_sizes": (512,), "dueling": True}
    ),
    "impala": ((84, 84), 4, True, {"kind": "impala", "hidden_sizes": (256,)}),
    "impala, dueling": (
        (84, 84), 4, True, {"kind": "impala", "hidden_sizes": (256,), "dueling": True}
    ),
    "batchnorm_cnn": ((3, 40, 90), None, True, {"kind": "batchnorm_cnn", "hidden_sizes": ()}),
}  # fmt: skip


def made(shape, stack, bytewise, settings):
    """A network that has seen a batch (running means), and a maker of observations."""
    torch.manual_seed(0)
    network = make_network(shape, ACTIONS, frame_stack=stack, image=len(shape) > 1, **settings)
    whole = shape if stack is None else (stack, *shape)

    def observations(count):
        if bytewise:
            return torch.randint(0, 256, (count, *whole), dtype=torch.uint8)
        return torch.randn(count, *whole)

    with torch.no_grad():
        network.train()(observations(32))
    return network.eval().requires_grad_(False), observations


def exported(network, example):
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


def traced(network, example):
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(network, (example,)), file)
    file.seek(0)
    return torch.jit.load(file)


def in_onnx(network, example, *, dynamo):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = io.BytesIO()
    how = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "verbose": False}
        if dynamo
        else {"dynamic_axes": {"observation": {0: "batch"}, "q": {0: "batch"}}}
    )
    torch.onnx.export(
        network, (example,), file, dynamo=dynamo,
        input_names=["observation"], output_names=["q"], **how,
    )  # fmt: skip
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"observation": x.numpy()})[0])


WAYS = {
    "torch.export": exported,
    "torch.jit.trace": traced,
    "onnx": lambda network, example: in_onnx(network, example, dynamo=True),
    "onnx, traced": lambda network, example: in_onnx(network, example, dynamo=False),
}


def leave(way, network, example):
    with warnings.catch_warnings():
        # Of the exporters about themselves: old ways, new ways, copies of buffers.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", module="fastdqn")  # of what ours does that a trace loses
        return WAYS[way](network, example)


def check(way, network, observations, count, *, example=2):
    """Exported with a small batch, it gives the same numbers on a large one."""
    seen = observations(count)
    with torch.no_grad():
        expected = network(seen)
    assert expected.std() > 0.01  # else anything would do
    program = leave(way, network, observations(example))
    q = program(seen)
    assert q.dtype == torch.float32
    torch.testing.assert_close(q, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(program(seen[:3]), expected[:3], rtol=0, atol=1e-5)


# The fourth way takes a second.
FAST = ("torch.export", "torch.jit.trace", "onnx, traced")
FOURTH = ("nature, colours, odd width, dueling",)


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name in NETWORKS for way in FAST] + [(name, "onnx") for name in FOURTH],
)
def test_it_gives_the_same_numbers_elsewhere(name, way):
    network, observations = made(*NETWORKS[name])
    check(way, network, observations, 200)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*NETWORKS, *(f"full size: {name}" for name in AT_FULL_SIZE)])
def test_it_gives_the_same_numbers_on_a_thousand_observations(name, way):
    what = NETWORKS.get(name) or AT_FULL_SIZE[name.removeprefix("full size: ")]
    network, observations = made(*what)
    check(way, network, observations, 1_000)


@pytest.mark.parametrize("way", ["torch.jit.trace", "onnx, traced"])
def test_traces_may_be_made_with_a_single_observation(way):
    # torch.export takes a batch of one for a constant, whatever the network.
    network, observations = made(*NETWORKS["nature"])
    check(way, network, observations, 50, example=1)


def operators(network, example):
    """Names of what the compiled forward consists of."""
    from torch._dynamo.backends.common import aot_autograd

    found = set()

    def collect(graph, _):
        found.update(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend=aot_autograd(fw_compiler=collect))
    with torch.no_grad():
        compiled(example)
    return found


@pytest.mark.skipif(not has_conv_relu("cpu", torch.float32), reason="torch without oneDNN")
def test_what_is_compiled_keeps_the_fast_operators():
    network, observations = made(*NETWORKS["nature"])
    rows = -(-_WORTH_IT // network.torso.hidden.weight.numel())
    found = operators(network, observations(rows))
    assert {
        "fastdqn.onednn_conv_relu.default",
        "fastdqn.onednn_product.default",
    } <= found
    # And an exported one has none of them.
    program = torch.export.export(network, (observations(rows),))
    assert not any("fastdqn" in str(node.target) for node in program.graph.nodes)


@pytest.mark.skipif(not has_conv_relu("cpu", torch.float32), reason="torch without oneDNN")
def test_after_an_export_the_fast_way_is_taken_again():
    layer = Linear(2_000, 1_000)
    x = torch.randn(8, 2_000)
    for way in ("torch.export", "torch.jit.trace"):
        leave(way, layer, x)
        assert type(layer(x).grad_fn).__name__ == "_ProductBackward"
    assert has_conv_relu("cpu", torch.float32)


TINY = {
    "total_env_steps": 200, "learning_starts_env_steps": 100, "hidden_sizes": (64,),
    "eval_episodes": 0, "device": "cpu", "torch_threads": 1, "mode": "eager",
}  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_policy_of_a_run_leaves_in_float32(tmp_path, precision):
    config = Config(**TINY, precision=precision, run_dir=str(tmp_path / "run"))
    trained = fastdqn.train(config).policy
    policy = fastdqn.load(tmp_path / "run", device="cpu")
    # What acts in bfloat16 is a copy.
    body = next(policy.acting_network.torso.parameters())
    assert body.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
    rng = np.random.default_rng(0)

    def observations(count):
        return torch.from_numpy(rng.normal(size=(count, 4)).astype(np.float32))

    for way in WAYS if precision == "fp32" else FAST:
        check(way, policy.network, observations, 1_000)
    check("torch.jit.trace", trained.network, observations, 1_000)
    seen = observations(100)
    q = leave("onnx, traced", policy.network, seen[:2])(seen)
    with torch.no_grad():
        torch.testing.assert_close(trained.network(seen), q, rtol=0, atol=1e-5)
    if precision == "fp32":  # whose actions are those of the policy
        assert np.array_equal(policy.act(seen.numpy()), q.argmax(dim=1).numpy())
