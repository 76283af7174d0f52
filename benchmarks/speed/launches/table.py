"""The launch table: a row per part, a column per way of running it."""

from __future__ import annotations

from collections import Counter
from typing import Any

_UPDATE = ("draw", "random numbers", "gradients", "apply", "write-back")
_ALONE = ("target sync", "add", "add of two rows", "act", "newest stacks alone")

Kinds = Counter[str]


def rows(result: dict[str, Any]) -> dict[str, dict[str, Kinds]]:
    """By part and mode: how many nodes of each kind; ``update`` is the sum of its parts."""
    found: dict[str, dict[str, Kinds]] = {}
    for mode, calls in result["modes"].items():
        parts = {part: _kinds(calls["update"], part) for part in _UPDATE}
        parts["update"] = sum(parts.values(), Counter())
        parts.update({call: _kinds(calls[call], call) for call in _ALONE})
        for part, kinds in parts.items():
            found.setdefault(part, {})[mode] = kinds
    return {part: modes for part, modes in found.items() if any(modes.values())}


def _kinds(call: dict[str, Any], part: str) -> Kinds:
    return Counter({k: sum(names.values()) for k, names in call["parts"].get(part, {}).items()})


def host_launches(call: dict[str, Any]) -> int:
    """How often the host launches something for one call; a graph is one launch."""
    return call["outside"] + call["graphs"]


def markdown(result: dict[str, Any]) -> str:
    """The table of one case, and what is wrong with it."""
    lines = [
        f"### {result['case']}\n",
        "| part | launches eager | compiled: Triton + library | + ATen and copies | = nodes |",
        "|---|--:|--:|--:|--:|",
    ]
    for part, modes in rows(result).items():
        eager, graph = (modes.get(mode, Counter()) for mode in ("eager", "graph"))
        cells = [
            str(eager.total()),
            f"{graph['triton']} + {graph['library']}",
            str(graph["aten"] + graph["copy"]),
            str(graph.total()),
        ]
        if part == "update":
            part, *cells = (f"**{cell}**" for cell in (part, *cells))
        lines.append(f"| {' | '.join((part, *cells))} |")
    graph = result["modes"].get("graph", {})
    launches = ", ".join(f"{call} {host_launches(graph[call])}" for call in graph)
    lines.append(f"\nLaunched by the host, a graph as one: {launches}.\n")
    lines += [f"- broken: {law}" for law in result["broken"]]
    lines += [f"- ended by {result['error']}"] * bool(result["error"])
    return "\n".join(lines)
