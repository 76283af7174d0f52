"""Plants faults into a run on the fake device, eager and compiled; prints the laws found broken."""

import json
import warnings

from benchmarks.speed.launches import device

warnings.filterwarnings("ignore")
device.install()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from benchmarks.speed.launches.parts import CASES, Run  # noqa: E402
from benchmarks.speed.launches.watch import WATCH  # noqa: E402
from fastdqn.learning.learner import Learner  # noqa: E402
from fastdqn.replay import buffer_torch  # noqa: E402

FAULTS = {
    "never used": lambda x: x + 1,
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "mask": lambda x: x[x > 0],
    "mask written": lambda x: x.index_put((x > 0,), torch.zeros((), device=x.device)),
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: torch.unique(x),
    "repeat": lambda x: x.repeat_interleave(x.long()),
    "wrong device": lambda x: x + torch.zeros(len(x)),
    "wrong device of weights": lambda x: F.conv1d(x.view(1, 1, -1), torch.zeros(1, 1, 1)),
    "number on the host": lambda x: x * torch.tensor(2.0),
    "made from the host": lambda x: x + torch.tensor([2.0], device=x.device),
}
CONFIG = CASES["prioritized"].replace(
    network="mlp", hidden_sizes=(16,), dueling=False, precision="fp32"
)


def broken_by(plant, mode):
    """Laws that a run breaks, how it ended, nodes of an update; ``plant()`` is undone after it."""
    WATCH.forget()
    raised = nodes = None
    undo = plant()
    try:
        with device.fake_device():
            nodes = Run(CONFIG, mode).costs()["update"].nodes.total()
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    finally:
        undo()
    return {"broken": WATCH.broken, "raised": raised, "nodes": nodes}


def before(owner, method, argument, fault):
    """Plants a fault in front of a method; it gets that argument of it."""
    really = getattr(owner, method)

    def planted(*args):
        fault(args[argument])
        return really(*args)

    def plant():
        setattr(owner, method, planted)
        return lambda: setattr(owner, method, really)

    return plant


# Into the draw, which is compiled but in eager mode; into what is captured and never compiled.
plants = {
    name: before(buffer_torch, "importance_weights", 0, fault) for name, fault in FAULTS.items()
}
plants["nothing"] = lambda: lambda: None
plants["one launch more"] = before(Learner, "_apply", 1, lambda x: x + 1)
plants["waits"] = before(Learner, "_apply", 1, lambda x: torch.cuda.synchronize())
plants["item, uncompiled"] = before(Learner, "_apply", 1, FAULTS["item"])
found = {
    mode: {name: broken_by(plant, mode) for name, plant in plants.items()}
    for mode in ("eager", "graph")
}
print(json.dumps(found))
