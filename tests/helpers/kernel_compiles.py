"""Compiles the ladder's Triton kernels for an H100, which needs no GPU."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.gpu.ladder import block_sums_kernels, flat_adam_kernels, fused_gather_kernels

FLOATS, LONGS, BYTES, INT, FLOAT = "*fp32", "*i64", "*u8", "i32", "fp32"


def compiles(kernel, types, **constants):
    names = kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else kind
        for name, kind in zip(names, [*types, *constants], strict=True)
    }
    source = ASTSource(
        kernel, signature, constexprs={(names.index(n),): v for n, v in constants.items()}
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"], kernel.__name__


compiles(
    block_sums_kernels.draw, [FLOATS, FLOATS, FLOATS, LONGS, FLOATS, INT, INT],
    FANOUT=4096, TOP=4096,
)  # fmt: skip
for priorities in (False, True):
    compiles(
        block_sums_kernels.write, [FLOATS, LONGS, FLOATS, FLOATS, FLOAT, FLOAT],
        BATCH=256, PRIORITIES=priorities, BLOCK=32, CHUNK=128,
    )  # fmt: skip
    compiles(
        block_sums_kernels.add_up, [FLOATS, FLOATS, LONGS, FLOATS, FLOATS, BYTES],
        BATCH=256, PRIORITIES=priorities, FANOUT=1024, CHUNK=128,
    )  # fmt: skip
compiles(
    flat_adam_kernels.adam, [FLOATS] * 4 + ["*bf16"] + [FLOATS] * 2 + [FLOAT, INT],
    LOWERS=True, BLOCK=1024,
)  # fmt: skip
for n_step, kind in ((1, "*bf16"), (3, "*fp32")):
    compiles(
        fused_gather_kernels.gather,
        [BYTES, LONGS, FLOATS, BYTES, BYTES, BYTES, LONGS, FLOATS, kind, LONGS, FLOATS, FLOATS]
        + [INT] * 3,
        N_STEP=n_step, STACK=4, HEIGHT=84, WIDTH=84, SIDE=4, LANES=2048,
    )  # fmt: skip
print("done")
