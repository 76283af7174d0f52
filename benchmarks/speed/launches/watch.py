"""Sees every operator on its way to the device: counts nodes, collects what a capture forbids."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.speed.launches.nodes import Node, nodes_of, on_device

aten = torch.ops.aten
ROOT = Path(__file__).parents[3]

_BY_INDEX = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
# Written in place, and without an implementation for fakes in torch 2.11.
_WITHOUT_A_FAKE = (aten._fused_adam_,)

Tally = Counter[tuple[str, Node]]  # by part


class Graph:
    """Stands for a captured graph: its nodes were counted as they were captured."""

    def __init__(self) -> None:
        self.nodes: Tally = Counter()
        self.drawn_from: set[int] = set()  # generators, by identity

    def register_generator_state(self, generator: torch.Generator) -> None:
        """Nothing is drawn here."""

    def replay(self) -> None:
        """Launch it; one that draws is first told how far each of its generators has come."""
        WATCH.launched.append(self)


class Watch(TorchDispatchMode):
    """The one watch of a process; fakes do their work beneath it."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[str] = []
        self.launched: list[Graph] = []
        self.outside: Tally = Counter()  # what is launched outside of any graph
        self.capturing: Graph | None = None
        self.part = ""
        self.counting = self.strict = False
        self.pinned: set[int] = set()  # storages
        self.waits = 0

    @contextmanager
    def capture(self, graph: Graph, **_: Any) -> Iterator[None]:
        """Stands for ``torch.cuda.graph``."""
        counting, self.capturing, self.counting = self.counting, graph, True
        try:
            yield
        finally:
            self.capturing, self.counting = None, counting

    def forget(self) -> None:
        """Begin anew, for another run in the same process."""
        self.__init__()  # type: ignore[misc]

    def wait(self) -> None:
        """The host waits for the device, which it may do between graphs alone."""
        self.waits += 1
        if self.capturing is not None:
            self.report("the host waits for the device within a capture")

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """For what a compiler does while it compiles."""
        counting, self.counting = self.counting, False
        try:
            yield
        finally:
            self.counting = counting

    def named(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, whose nodes belong to that part unless it runs within another."""

        def call(*args: Any, **kwargs: Any) -> Any:
            before, self.part = self.part, self.part or part
            try:
                return function(*args, **kwargs)
            finally:
                self.part = before

        return call

    def launch(self, node: Node) -> None:
        """Count one node."""
        if self.counting:
            tally = self.outside if self.capturing is None else self.capturing.nodes
            tally[self.part, node] += 1

    def draws(self, generator: Any) -> None:
        """Random numbers are drawn."""
        if self.capturing is not None:
            self.capturing.drawn_from.add(id(generator))

    def report(self, law: str) -> None:
        """A broken law and the line of the project that broke it."""
        own = [f for f in traceback.extract_stack() if _is_project(f.filename)]
        place = f" ({Path(own[-1].filename).relative_to(ROOT)}:{own[-1].lineno})" if own else ""
        message = f"{self.part or 'elsewhere'}: {law}{place}"
        if message not in self.broken:
            self.broken.append(message)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = function.overloadpacket
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if self.strict:
            self._check(packet, args, tensors)
        if packet in _WITHOUT_A_FAKE:
            result = None
        else:
            try:
                result = function(*args, **kwargs)
            except (DataDependentOutputException, DynamicOutputShapeException) as error:
                shape = isinstance(error, DynamicOutputShapeException)
                does = "has a shape that depends on data" if shape else "reads a value on the host"
                self.report(f"{packet} {does}")
                raise
            except RuntimeError as error:
                if "device" in str(error):
                    self.report(f"{packet}: {str(error).splitlines()[0]}")
                raise
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if self.strict and packet is aten._to_copy:
            self._check_copy(packet, to=made[0], source=tensors[0])
        if self.counting and on_device(tensors + made):
            for node in nodes_of(function, args, kwargs, result):
                self.launch(node)
        return result

    def _check(self, packet: Any, args: Any, tensors: list[Tensor]) -> None:
        if packet in _BY_INDEX and any(
            x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]
        ):
            self.report(f"{packet} by a mask has a shape that depends on data")
        if packet is aten.copy_:
            self._check_copy(packet, to=tensors[0], source=tensors[1])
        elif packet is not aten._to_copy and len({t.device.type for t in tensors}) > 1:
            # Fakes let some operators pass, and a number on the host would be frozen in a graph.
            self.report(f"{packet} mixes tensors on the host and on the device")

    def _check_copy(self, packet: Any, *, to: Tensor, source: Tensor) -> None:
        if to.device.type == source.device.type:
            return
        host = source if to.is_cuda else to
        if packet is aten._to_copy or host.untyped_storage()._cdata not in self.pinned:
            way = "to the device" if to.is_cuda else "from the device"
            self.report(f"{packet} copies {way} and makes the host wait")


def _is_project(filename: str) -> bool:
    return filename.startswith(str(ROOT / "fastdqn"))


WATCH = Watch()
