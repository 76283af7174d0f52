"""How many nodes each part of the CUDA path has: no more than it had when this was last changed.

Counted by ``python -m benchmarks.speed.launches``, as its ``nodes.py`` defines them. The bounds are
what torch 2.11 and Triton 3.6 make of it. Lower them with every launch saved.
"""

import json

import pytest
import torch

from benchmarks.speed.launches.table import host_launches, markdown, rows

pytestmark = [
    pytest.mark.cuda_build,
    pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch"),
]

# Nodes of the captured graphs: gradients, the whole update, act; then what hardly differs.
BOUNDS = {
    "dqn-atari": (49, 62, 14),
    "dqn-atari-256": (52, 65, 14),
    "prioritized": (65, 88, 15),
    "prioritized-256": (69, 92, 15),
    "prioritized-n3": (65, 89, 15),
    "c51": (65, 78, 15),
    "qr": (63, 76, 15),
    "iqn": (80, 94, 18),
    "munchausen-iqn": (92, 106, 18),
    "noisy": (69, 83, 17),
    "rainbow": (103, 128, 25),
    "impala": (205, 228, 39),
    "impala-256": (209, 232, 39),
}
PARTS = {"draw": 9, "random numbers": 1, "apply": 7, "write-back": 7, "target sync": 2}
PARTS |= {"newest stacks alone": 2, "add": 16, "add of two rows": 69}
HOST = {"update": 4, "act": 3, "add": 2, "add of two rows": 2}  # launches, a graph counted as one


@pytest.mark.parametrize("case", BOUNDS)
def test_an_update_has_no_more_launches(case, run, record_property):
    output, errors = run("-m", "benchmarks.speed.launches", "--json", case)
    (result,) = json.loads(output)
    record_property("launches", markdown(result))
    assert result["error"] is None, errors
    assert result["broken"] == []
    assert result["cubins"] > 20

    nodes = {part: modes["graph"].total() for part, modes in rows(result).items()}
    gradients, update, act = BOUNDS[case]
    bounds = {**PARTS, "gradients": gradients, "update": update, "act": act}
    if case in ("prioritized-n3", "rainbow"):
        bounds["draw"] += 1  # a window of three rows
    assert {part: n for part, n in nodes.items() if n > bounds.get(part, n)} == {}
    assert bounds.keys() - nodes.keys() <= {"write-back", "random numbers"}  # not all have them

    calls = result["modes"]["graph"]
    generators = 2 if "random numbers" in nodes else 1  # whose seed and offset are filled in
    host = {**HOST, "update": 2 + 2 * generators}
    assert {call: host_launches(calls[call]) for call in HOST} == host
    # The host waits for its actions, and for a staging buffer that was copied long ago.
    assert {call: calls[call]["waits"] for call in (*HOST, "target sync")} == {
        "update": 0, "act": 1, "add": 1, "add of two rows": 1, "target sync": 0,
    }  # fmt: skip
    assert all(calls[call]["graphs"] == 1 for call in HOST)


def test_what_is_eager_is_counted(run):
    """The same numbers as read from the code: a check of the count itself."""
    output, _ = run("-m", "benchmarks.speed.launches", "--json", "dqn-atari")
    (result,) = json.loads(output)
    calls = result["modes"]["eager"]
    sync, apply = (calls[c]["parts"][p] for c, p in (("target sync",) * 2, ("update", "apply")))
    assert sync == {"aten": {"copy_": 2}}  # the masters and their bfloat16 copy
    # Step count, Adam, the bfloat16 copy, statistics; nothing is clipped.
    assert apply == {"aten": {"add_": 2, "_fused_adam_": 1, "copy_": 1}}
    gradients = calls["update"]["parts"]["gradients"]["library"]
    # Three layers forward twice; backward a weight's gradient each, an input's but for the first.
    assert gradients["convolution"] == 6 and gradients["convolution_backward"] == 5
    # Two layers forward twice; backward two products each.
    assert gradients["addmm"] == 4 and gradients["mm"] == 4
