"""The file of an exported network, written and run again: ONNX, or a program of torch.export."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastdqn.sharing.exported_network import OUTPUT, ExportedNetwork

METADATA_FILE = "fastdqn.json"
"""Within a file of ``torch.export``: the metadata as a JSON object."""

Run = Callable[[tuple[Tensor, ...]], Tensor]


def write_onnx(network: ExportedNetwork, metadata: Mapping[str, str], path: Path) -> Run:
    """Write an ONNX file with inputs and outputs by name.

    Returns:
        What runs the file, in onnxruntime on the CPU.
    """
    names = [each.name for each in network.inputs]
    with _quiet():
        program = torch.onnx.export(
            network,
            _examples(network),
            dynamo=True,
            dynamic_shapes=_dynamic_batch(network),
            input_names=names,
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        program.model.producer_name = "fastdqn"
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # lines and paths of this machine
        program.model.metadata_props.update(metadata)
        program.save(str(path))
    return open_onnx(path)


def open_onnx(path: Path) -> Run:
    """What runs an ONNX file."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(arrays: tuple[Tensor, ...]) -> Tensor:
        given = dict(zip(names, (array.numpy() for array in arrays), strict=True))
        return torch.from_numpy(session.run([OUTPUT], given)[0])

    return run


def write_torch_export(network: ExportedNetwork, metadata: Mapping[str, str], path: Path) -> Run:
    """Write a program of ``torch.export``.

    Returns:
        What runs the file.
    """
    with _quiet():
        program = torch.export.export(
            network, _examples(network), dynamic_shapes=_dynamic_batch(network)
        )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # lines and paths of this machine
        text = json.dumps(dict(metadata), indent=1)
        torch.export.save(program, str(path), extra_files={METADATA_FILE: text})
    return open_torch_export(path)


def open_torch_export(path: Path) -> Run:
    """What runs a program that this process has written."""
    with _quiet():
        module = torch.export.load(str(path)).module()
    return lambda arrays: module(*arrays)


WRITERS: dict[str, Callable[[ExportedNetwork, Mapping[str, str], Path], Run]] = {
    "onnx": write_onnx,
    "torch-export": write_torch_export,
}


def _examples(network: ExportedNetwork) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(each.random(2, generator) for each in network.inputs)  # one would be a constant


def _dynamic_batch(network: ExportedNetwork) -> dict[str, Any]:
    batch = torch.export.Dim("batch")
    return {each.name: {0: batch} for each in network.inputs}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say about themselves: old ways, new ways, torchvision."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
