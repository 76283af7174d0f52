"""``torch.compile`` for the H100 that is not here: what is generated runs on fakes.

Inductor makes its code as for the device, Triton and ptxas make each kernel a cubin, and the code
around the kernels is run on fake tensors: a kernel's launch counts, everything else it calls goes
through torch's dispatcher and is counted there, and results have the strides that Inductor chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten

from benchmarks.speed.launches.nodes import Node
from benchmarks.speed.launches.watch import WATCH

_SM = 90
_CONFIG = {
    "joint_graph_constant_folding": False,  # runs kernels while it compiles
    "shape_padding": False,  # likewise
    "fx_graph_cache": False,  # what is kept there would be taken for a real device's
    "use_static_cuda_launcher": False,  # keeps no cubin to look at
}
CUBINS: list[str] = []  # names of the kernels compiled


def compile_for_fakes(
    function: Callable[..., Any], *, options: Mapping[str, Any] | None = None, **_: Any
) -> Callable[..., Any]:
    """Stands for ``torch.compile``; compiles at the first call with new shapes."""
    compiled: dict[Any, Callable[..., Any]] = {}

    def call(*args: Any) -> Any:
        leaves, structure = tree_flatten(args)
        key = (structure, *map(_kind, leaves))
        if key not in compiled:
            with WATCH.uncounted():
                compiled[key] = _compile(function, leaves, structure, dict(options or {}))
        return compiled[key]([leaf for leaf in leaves if isinstance(leaf, Tensor)])

    return call


def _kind(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.shape, leaf.stride(), leaf.dtype, leaf.device


def _compile(
    function: Callable[..., Any], leaves: list[Any], structure: Any, options: dict[str, Any]
) -> Callable[[list[Tensor]], Any]:
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx

    shape_of_result: list[Any] = []

    def flat(*tensors: Tensor) -> list[Any]:
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        values, shape = tree_flatten(function(*tree_unflatten(filled, structure)))
        shape_of_result[:] = [shape]
        return values

    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    graph = make_fx(flat)(*tensors)
    read = _lift(graph)
    if any(tensor.device.type != "cuda" for tensor in read):
        WATCH.report("what is compiled reads a tensor on the host")
    examples = [_plain(tensor) for tensor in (*tensors, *read)]
    with torch.no_grad(), _disable_current_modes(), config.patch({**_CONFIG, **options}):
        run = compile_fx(graph, examples)

    def call(given: list[Tensor]) -> Any:
        with torch.no_grad():
            results = run(*(_plain(tensor) for tensor in (*given, *read)))
        return tree_unflatten(list(results), shape_of_result[0])

    return call


def _plain(tensor: Tensor) -> Tensor:
    # Not all of them: Inductor does not take apart what is a view of a view.
    return tensor.detach() if tensor.requires_grad else tensor


def _lift(graph: fx.GraphModule) -> list[Tensor]:
    """Make inputs of the tensors that the function has read beside its own; return them."""
    nodes = graph.graph
    first = next(node for node in nodes.nodes if node.op != "placeholder")
    read: dict[str, tuple[fx.Node, Tensor]] = {}
    constants = nodes.find_nodes(op="get_attr")
    for node in constants:
        name = str(node.target)
        if name not in read:
            with nodes.inserting_before(first):
                read[name] = nodes.placeholder(f"read_{name}"), getattr(graph, name)
        node.replace_all_uses_with(read[name][0])
    for node in constants:
        nodes.erase_node(node)
    graph.recompile()
    return [tensor for _, tensor in read.values()]


def install(properties: Any) -> None:
    """Patch torch.compile, and what Inductor and Triton ask of the driver."""
    import triton.runtime
    from torch._inductor import config, utils
    from torch._inductor.runtime import triton_helpers
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner
    from triton.backends.compiler import GPUTarget

    limits = {
        "max_shared_mem": properties.shared_memory_per_block_optin,
        "multiprocessor_count": properties.multi_processor_count,
        "warpSize": properties.warp_size,
        "max_num_regs": properties.regs_per_multiprocessor,
    }

    class Driver:
        class utils:
            get_device_properties = staticmethod(lambda device=0: limits)

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", _SM, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: Any = None) -> int:
            return 0

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cuda", 0)

        def get_device_interface(self) -> Any:
            return torch.cuda

    triton.runtime.driver.set_active(Driver())
    triton_helpers.set_driver_to_gpu = lambda: None
    torch._C._cuda_getCurrentRawStream = lambda index: 0
    config.compile_threads = 1
    guards: Any = torch._C._dynamo.guards
    guards._empty_strided_cuda = lambda size, stride, dtype: torch.empty_strided(
        size, stride, dtype=dtype, device="cuda:0"
    )
    guards._reinterpret_tensor = lambda x, size, stride, offset=0: torch.as_strided(
        x, size, stride, x.storage_offset() + offset
    )
    utils.copy_misaligned_inputs = lambda inputs, indices, pairs=None: ([], [])
    CachingAutotuner._make_launchers = _keep_cubins
    CachingAutotuner._dynamic_scale_rblock = lambda kernel: None
    CachingAutotuner.run = lambda kernel, *_, **__: WATCH.launch(Node("triton", kernel.fn.__name__))
    torch.compile = compile_for_fakes  # type: ignore[assignment]


def _keep_cubins(kernel: Any) -> None:
    """After ptxas has made the cubins, before the driver would load them."""
    for result in kernel.compile_results:
        if not result.kernel.asm["cubin"]:
            raise AssertionError(f"{kernel.fn.__name__} has no cubin")
    CUBINS.append(kernel.fn.__name__)
