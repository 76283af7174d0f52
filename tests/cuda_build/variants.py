"""Runs the variants of an update on the fake device; prints broken laws and nodes by variant."""

import json
import sys
import traceback
import warnings

from benchmarks.speed.launches import device

warnings.filterwarnings("ignore")
device.install()

from benchmarks.speed.launches.parts import CASES, Run  # noqa: E402
from benchmarks.speed.launches.watch import WATCH  # noqa: E402

PLAIN = CASES["prioritized"].replace(network="mlp", hidden_sizes=(16,), precision="fp32")
VARIANTS = {
    "plain": {},
    "uniform": {"prioritized": False},
    "rmsprop": {"optimizer": "rmsprop"},
    "rmsprop plain": {"optimizer": "rmsprop", "rmsprop_centred": False},
    "clamped": {"max_grad_norm": None, "max_grad_value": 1.0},
    "mse": {"loss": "mse"},
    "polyak": {"target_period_updates": 1, "target_tau": 0.01},
    "no target": {"target_period_updates": None, "double": False},
    "n-step": {"n_step": 5},
    "no stack": {"frame_stack": None},
    "batch norm": {"batch_norm": True},
    "c51": {"head": "c51"},
    "qr": {"head": "qr"},
    "iqn": {"head": "iqn", "iqn_cvar": 0.5},
    "munchausen": {"munchausen": True, "munchausen_policy": "online", "head": "iqn"},
    "noisy": {"noisy": True},
    "rainbow": {"head": "c51", "noisy": True, "n_step": 3},
    "a launch": {"updates_per_launch": None},  # of what a vector step owes
    "a launch, uniform": {"updates_per_launch": None, "prioritized": False},
    "a launch, noisy": {"updates_per_launch": None, "noisy": True},
}

results = {}
for name, changes in VARIANTS.items():
    results[name] = {"broken": [], "raised": None}
    for mode in ("eager", "graph"):
        WATCH.forget()
        try:
            with device.fake_device():
                costs = Run(PLAIN.replace(**changes), mode).costs()
            results[name][mode] = costs["update"].nodes.total()
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            results[name]["raised"] = f"{mode}: {type(error).__name__}: {error}"
        results[name]["broken"] += WATCH.broken
print(json.dumps(results))
