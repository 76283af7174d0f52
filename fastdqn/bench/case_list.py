"""All cases, group by group: names, sizes, and where each is part of the default set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from fastdqn.bench.case import BOTH, CPU, CUDA, IMPALA_WIDTHS, NOWHERE, Case
from fastdqn.bench.menu_cases import menu_cases


def all_cases() -> Iterator[Case]:
    """In the order in which they run."""
    for group in (_ceil, _env, _act, _per, _gather, _net, _adam, _update, menu_cases, _e2e, _peer):
        yield from group()


def number(text: str) -> int:
    """``1e6`` in a name as 1000000."""
    return int(float(text))


def _ceil() -> Iterator[Case]:
    for kind, line, default in (
        ("copy", "read and write of a buffer larger than any cache", BOTH),
        ("gemm_fp32", "large matrix product in float32", BOTH),
        ("gemm_bf16", "large matrix product in bfloat16", BOTH),
    ):
        yield Case(name=f"ceil/{kind}", line=line, params={"kind": kind}, default_on=default)
    for nodes in (1, 16, 64, 256):
        yield Case(
            name=f"ceil/graph_node/{nodes}",
            line=f"replay of a CUDA graph of {nodes} dependent tiny kernels",
            params={"kind": "graph_node", "nodes": nodes},
            default_on=CUDA,
            family="ceil/graph_node",
        )
    for kind, line in (
        ("graph_launch_host", "CUDA graphs launched one after another, by the host clock"),
        ("h2d_452k_pinned", "64 frames to the device from pinned memory"),
        ("h2d_452k_pageable", "64 frames to the device from pageable memory"),
        ("d2h_256b_event", "64 actions to the host, and the wait for them"),
    ):
        yield Case(name=f"ceil/{kind}", line=line, params={"kind": kind}, default_on=CUDA)


def _env() -> Iterator[Case]:
    for n in (16, 64):
        yield Case(
            name=f"env/cartpole/N{n}",
            line=f"{n} CartPoles of Gymnasium's vector class, random actions",
            params={"env_id": "CartPole-v1", "num_envs": n},
            default_on=BOTH if n == 16 else CUDA,
        )
    default = {("pong", 8, 2): CPU, ("pong", 64, 16): CUDA, ("breakout", 64, 16): CUDA}
    games = {"pong": "ALE/Pong-v5", "breakout": "ALE/Breakout-v5"}
    for game, (n, t) in product(games, ((8, 2), (16, 8), (64, 8), (64, 16))):
        yield Case(
            name=f"env/ale/{game}/N{n}/T{t}",
            line=f"{n} games of {game} on {t} threads of ALE, random actions",
            params={"env_id": games[game], "num_envs": n, "num_threads": t},
            default_on=default.get((game, n, t), NOWHERE),
        )
    natives = {
        "cartpole": "fastdqn/CartPole-v1",
        "catch": "fastdqn/Catch-v0",
        "breakout": "fastdqn/Breakout-v0",
    }
    for (name, env_id), n in product(natives.items(), (16, 1024)):
        yield Case(
            name=f"env/native/{name}/N{n}",
            line=f"{n} envs of {env_id}, random actions",
            params={"env_id": env_id, "num_envs": n},
            default_on=CPU if n == 16 else CUDA,
            family=f"env/native/{name}/N{n}",
        )
    cartpole = natives["cartpole"]
    for n in (1024, 65536):
        if n == 65536:
            yield Case(
                name=f"env/native/cartpole/N{n}",
                line=f"{n} envs of {cartpole}, random actions",
                params={"env_id": cartpole, "num_envs": n},
                family=f"env/native/cartpole/N{n}",
            )
        for name, line, bare in (
            ("compiled", "the step compiled", False),
            ("compiled_step", "the compiled step() alone, without the stream", True),
        ):
            yield Case(
                name=f"env/native/cartpole/N{n}/{name}",
                line=f"{n} envs of {cartpole}, random actions: {line}",
                params={"env_id": cartpole, "num_envs": n, "compile": True, "bare": bare},
                default_on=(BOTH if n == 1024 else CUDA) if bare else NOWHERE,
                family=f"env/native/cartpole/N{n}",
            )
    looks = {"rgb": {}, "gray": {"gray": True}, "difference": {"difference": True}}
    for look, n, compiled in product(looks, (16, 256, 1024), (False, True)):
        if compiled and n > 16:  # the picture binds
            continue
        options = {"pixels": True, **looks[look], "compile": compiled}
        kind = CPU if n == 16 else CUDA if n == 1024 else NOWHERE
        yield Case(
            name=f"env/native/cartpole_pixels/{look}/N{n}{'/compiled' if compiled else ''}",
            line=f"{n} screens of {cartpole}, {_LOOKS[look]}, random actions"
            + (": the step compiled, the picture not" if compiled else ""),
            params={"env_id": cartpole, "num_envs": n, "per_frame": True, **options},
            default_on=kind if look != "gray" and not compiled else NOWHERE,
            family="env/native/cartpole_pixels",
        )
    for n in (8, 64):
        yield Case(
            name=f"env/synthetic/N{n}",
            line=f"{n} envs of ready-made random frames: what a stream costs without an emulator",
            params={"env_id": "synthetic", "num_envs": n},
            default_on=CPU if n == 8 else CUDA,
        )


_LOOKS = {
    "rgb": "RGB bytes",
    "gray": "gray bytes",
    "difference": "each minus the one before as floats",
}


def _act() -> Iterator[Case]:
    for net, n in (("mlp", 16), ("mlp", 64), ("nature", 8), ("nature", 64)):
        yield Case(
            name=f"act/{net}/N{n}",
            line=f"epsilon-greedy actions for {n} newest stacks, on the host",
            params={"net": net, "num_envs": n},
            default_on=CPU if n in (8, 16) else CUDA,
        )


def _per() -> Iterator[Case]:
    for size, batch in product(("1e5", "1e6", "1.6e7"), (32, 256, 4096)):
        for work, tree in product(("sample", "update"), ("sumtree", "cumsum", "torchrl")):
            what = "draw from" if work == "sample" else "write priorities to"
            yield Case(
                name=f"per/{work}/{tree}/N{size}/B{batch}",
                line=f"{what} {size} leaves: {_TREES[tree]}",
                params={"work": work, "tree": tree, "size": number(size), "batch_size": batch},
                default_on=BOTH if (size, batch) == ("1e6", 256) else NOWHERE,
                family=f"per/{work}/N{size}/B{batch}",
            )
    cycles = {
        ("vector", "1e6"): (256, 1024),
        ("pixels", "2e4"): (32, 256),
        ("pixels", "1e6"): (32, 256),
    }
    for (net, size), batch in ((key, batch) for key in cycles for batch in cycles[key]):
        default = {"2e4": CPU, "1e6": CUDA}[size] if net == "pixels" else BOTH
        yield Case(
            name=f"per/cycle/{net}/N{size}/B{batch}",
            line=f"whole cycle on {net}: draw, gather, weights, write back",
            params={"work": "cycle", "net": net, "size": number(size), "batch_size": batch},
            default_on=default if batch in (32, 256) else NOWHERE,
            family=f"per/cycle/{net}/N{size}/B{batch}",
        )


_TREES = {
    "sumtree": "fastdqn's wide tree",
    "cumsum": "one cumulative sum over all leaves, nothing kept",
    "torchrl": "torchrl's segment tree of the same device",
}


def _gather() -> Iterator[Case]:
    for net, batch, n in product(("pixels", "vector"), (32, 256, 1024), (1, 3)):
        yield Case(
            name=f"gather/{net}/B{batch}/n{n}",
            line=f"rebuild {batch} transitions of {n} steps from {net}, both stacks",
            params={"net": net, "batch_size": batch, "n_step": n},
            default_on=BOTH if net == "pixels" and batch < 1024 and n == 3 else NOWHERE,
        )


def _net() -> Iterator[Case]:
    for net, batch in product(("nature", "nature_duel", "mlp", *IMPALA_WIDTHS), (32, 256)):
        precisions = ("fp32",) if net == "mlp" else ("fp32", "bf16")
        for work, precision in product(("fwd", "fwdbwd"), precisions):
            default: tuple[str, ...] = NOWHERE
            if net == "nature":
                default = BOTH if batch == 32 else CUDA
            elif (work, net, batch, precision) == ("fwdbwd", "impala2", 256, "bf16"):
                default = CUDA
            yield Case(
                name=f"net/{work}/{net}/B{batch}/{precision}",
                line="forward and backward" if work == "fwdbwd" else "forward without gradient",
                params={"work": work, "net": net, "batch_size": batch, "precision": precision},
                default_on=default,
                family=f"net/{work}/{net}/B{batch}",
            )


def _adam() -> Iterator[Case]:
    kinds = {
        "flat": "one flat buffer, fused, with the gather of the gradients",
        "torch_fused": "torch's fused Adam on a list of tensors",
        "foreach": "torch's foreach Adam on a list of tensors",
    }
    for net, kind in product(("nature", "mlp", *IMPALA_WIDTHS), kinds):
        yield Case(
            name=f"adam/{kind}/{net}",
            line=kinds[kind],
            params={"kind": kind, "net": net},
            default_on=BOTH if net == "nature" else NOWHERE,
            family=f"adam/{net}",
        )


def _update() -> Iterator[Case]:
    images = ("nature", "nature_duel", "nature_per", *IMPALA_WIDTHS)
    sizes = [*product(images, (32, 256)), ("mlp", 128)]
    for (net, batch), mode, launch in product(sizes, ("eager", "compile", "graph"), (1, 8)):
        if net in IMPALA_WIDTHS and launch > 1:  # arithmetic binds there, not launches
            continue
        plain = mode == "eager" and launch == 1
        default: tuple[str, ...] = NOWHERE
        if (net == "mlp" and mode == "compile") or (net in ("mlp", "nature") and plain):
            default = BOTH
        elif (net in ("mlp", "nature_per") and (plain or mode != "eager")) or (
            (net, batch) == ("impala2", 256)
        ):
            default = CUDA
        many = "one update" if launch == 1 else f"{launch} updates in one launch"
        yield Case(
            name=f"update/{net}/B{batch}/{mode}/K{launch}",
            line=f"{_NETS[net]}, double Q: {many}, {mode}",
            params={
                "net": net,
                "batch_size": batch,
                "mode": mode,
                "launch": launch,
                "prioritized": net == "nature_per",
            },
            default_on=default,
            family=f"update/{net.removesuffix('_per')}/B{batch}",
        )


_NETS = {
    "nature": "Nature CNN on a uniform replay",
    "nature_duel": "dueling Nature CNN on a uniform replay",
    "nature_per": "Nature CNN on a prioritized replay",
    **{
        net: f"residual CNN of IMPALA, width {width}, on a uniform replay"
        for net, width in IMPALA_WIDTHS.items()
    },
    "mlp": "MLP 120-84 on CartPole's state",
}


def _e2e() -> Iterator[Case]:
    for n in (16, 64):
        yield Case(
            name=f"e2e/cartpole/N{n}",
            line="training loop on CartPole: MLP 120-84, B 128, 1 update per 10 env steps",
            params={"recipe": "cartpole", "env": "cartpole", "num_envs": n},
            default_on=BOTH if n == 16 else CUDA,
        )
    default = {
        ("dqn", 8): CPU, ("A", 64): CUDA, ("B", 64): CUDA, ("B2", 64): CUDA, ("C", 64): CUDA,
        ("D", 64): CUDA,
    }  # fmt: skip
    for recipe, env, n in product(_RECIPES, ("synthetic", "pong"), (8, 64)):
        yield Case(
            name=f"e2e/{recipe}/{env}/N{n}",
            line=f"training loop on {env}: {_RECIPES[recipe]}",
            params={"recipe": recipe, "env": env, "num_envs": n},
            default_on=default.get((recipe, n), NOWHERE),
        )


_RECIPES = {
    "dqn": "plain DQN, B 32, 1 update per 4 env steps",
    "A": "double, prioritized, 3 steps, B 32, 1 update per 4 env steps",
    "B": "as A, but B 256, 1 update per 64 env steps",
    "B2": "as A, but B 256, 1 update per 16 env steps",
    "C": "as B, but IMPALA's residual CNN of width 2",
    "C2": "as B, but IMPALA's residual CNN of width 1",
    "D": "as A, but 1 update per env step",
}


def _peer() -> Iterator[Case]:
    for net, batch in (("nature", 32), ("nature", 256), ("mlp", 128)):
        yield Case(
            name=f"peer/eager_like/{net}/B{batch}",
            line="double-Q update as single-file scripts write it: eager, float32, stacks stored",
            params={"peer": "eager_like", "net": net, "batch_size": batch},
            default_on=BOTH,
            family=f"update/{net}/B{batch}",
        )
    for n in (1024, 65536):
        yield Case(
            name=f"peer/gymnasium/cartpole/N{n}",
            line=f"step() of {n} CartPoles of Gymnasium's vector class, random actions, no stream",
            params={"peer": "gymnasium", "work": "step", "num_envs": n},
            default_on=BOTH if n == 1024 else CUDA,
            family=f"env/native/cartpole/N{n}",
        )
    yield Case(
        name="peer/gymnasium/cartpole_render",
        line="a step, render(), crop and resizing of Gymnasium's CartPole, as the DQN tutorial",
        params={"peer": "gymnasium", "work": "render", "num_envs": 1},
        default_on=BOTH,
        family="env/native/cartpole_pixels",
    )
