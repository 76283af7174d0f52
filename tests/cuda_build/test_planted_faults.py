"""What a run on the fake device finds: each fault planted into it, and nothing else."""

import json

import pytest
import torch

pytestmark = [
    pytest.mark.cuda_build,
    pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch"),
]

READS, SHAPE = "reads a value on the host", "has a shape that depends on data"
MIXES, COPIES = "mixes tensors on the host and on the device", "makes the host wait"
EXPECTED = {
    "item": READS,
    "item, uncompiled": READS,
    "bool": READS,
    "tolist": READS,
    "cpu": COPIES,
    "mask": SHAPE,
    "mask written": SHAPE,
    "nonzero": SHAPE,
    "unique": SHAPE,
    "repeat": SHAPE,
    "wrong device": MIXES,
    "wrong device of weights": MIXES,
    "number on the host": MIXES,
    "made from the host": COPIES,
    "waits": "waits for the device within a capture",
}


@pytest.fixture(scope="module")
def found(run):
    return json.loads(run("tests/cuda_build/planted_faults.py")[0])


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_nothing_is_found_where_nothing_is_planted(found, mode):
    harmless = {"nothing", "never used", "one launch more"}
    assert set(found[mode]) == harmless | set(EXPECTED)
    for name in harmless:
        assert (found[mode][name]["broken"], found[mode][name]["raised"]) == ([], None)


def test_a_launch_more_is_counted(found):
    for mode, unused in (("eager", 1), ("graph", 0)):  # Inductor leaves out what nobody reads
        before = found[mode]["nothing"]["nodes"]
        assert before > 20
        assert found[mode]["one launch more"]["nodes"] == before + 1
        assert found[mode]["never used"]["nodes"] == before + unused


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_planted_fault_is_found(found, fault):
    for mode in ("eager", "graph"):
        result = found[mode][fault]
        if (fault, mode) == ("waits", "eager"):  # between launches it may
            assert result["broken"] == []
        elif (fault, mode) == ("made from the host", "graph"):  # what is traced makes it for real
            assert "NVIDIA driver" in result["raised"]
        else:
            assert any(EXPECTED[fault] in law for law in result["broken"]), (mode, result)
            part = "apply" if fault in ("waits", "item, uncompiled") else "draw"
            assert all(law.startswith(part) for law in result["broken"])
