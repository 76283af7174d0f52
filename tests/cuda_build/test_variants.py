"""Every variant of an update keeps the laws of capture on the fake device, and compiles."""

import json

import pytest
import torch

pytestmark = [
    pytest.mark.cuda_build,
    pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch"),
]

VARIANTS = (
    "plain", "uniform", "rmsprop", "rmsprop plain", "clamped", "mse", "polyak", "no target",
    "n-step", "no stack", "batch norm", "c51", "qr", "iqn", "munchausen", "noisy",
    "rainbow", "a launch", "a launch, uniform", "a launch, noisy",
)  # fmt: skip
AROUND = 3  # beta, the seed and the offset of the generator that draws
OF_ANOTHER = 2  # generator, which noise is drawn from


@pytest.fixture(scope="module")
def results(run):
    output, errors = run("tests/cuda_build/variants.py")
    return json.loads(output), errors


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_keeps_the_laws(results, name):
    result, errors = results[0][name], results[1]
    assert result["raised"] is None, errors
    assert result["broken"] == []
    # Compiled, an update has less than half of the launches.
    assert 20 < result["graph"] < result["eager"] / 2
    assert set(results[0]) == set(VARIANTS)


def test_a_launch_is_so_many_updates(results):
    nodes = {name: result["graph"] for name, result in results[0].items()}
    assert nodes["a launch"] - AROUND == 4 * (nodes["plain"] - AROUND)
    noisy = AROUND + OF_ANOTHER
    assert nodes["a launch, noisy"] - noisy == 4 * (nodes["noisy"] - noisy)
    # A uniform replay draws once for all of them.
    assert nodes["a launch, uniform"] - AROUND < 4 * (nodes["uniform"] - AROUND)
