"""Whatever makes Dynamo compile again: the update goes on with the same numbers, or says why not.

``aot_eager`` traces as Inductor does, and needs no C++ compiler.
"""

import copy
import gc
import weakref
from contextlib import contextmanager, nullcontext

import pytest
import torch
from gymnasium.spaces import Box
from torch import nn

import fastdqn.system.compilation
from fastdqn.errors import ConfigError, FastDQNError
from fastdqn.learning.learner import Learner
from fastdqn.networks.make import make_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.replay.sum_tree import SumTree
from fastdqn.system.compilation import compile_pure
from fastdqn.system.devices import check_deterministic_products
from fastdqn.types import Batch

B = 4


@pytest.fixture(autouse=True)
def as_it_was():
    torch._dynamo.reset()
    yield
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")


def network(image):
    torch.manual_seed(0)
    shape, stack = ((36, 36), 4) if image else ((3,), None)
    return make_network(shape, 3, frame_stack=stack, hidden_sizes=(8,))


def learner(mode, own_network=None, *, image=False, **options):
    options = {"precision": "fp32", "compile_backend": "aot_eager", **options}
    return Learner(own_network or network(image), mode=mode, **options)


def batch(seed=0, image=False):
    g = torch.Generator().manual_seed(seed)
    if image:
        frames = torch.randint(0, 256, (2, B, 4, 36, 36), dtype=torch.uint8, generator=g)
    else:
        frames = torch.rand((2, B, 3), generator=g)
    action = torch.randint(0, 3, (B,), generator=g)
    reward, discount, weight = torch.rand((3, B), generator=g)
    return Batch(frames[0], action, reward, discount, frames[1], weight, torch.arange(B))


def rows_apart(frames):
    """The same values, a row of 36 pixels every 40."""
    wide = torch.zeros((*frames.shape[:-1], 40), dtype=frames.dtype)
    wide[..., :36] = frames
    return wide[..., :36]


def frames_apart(frames):
    """The same values, each frame padded to whole kilobytes."""
    wide = torch.zeros((*frames.shape[:2], 2048), dtype=frames.dtype)
    wide[..., : 36 * 36] = frames.flatten(2)
    return wide[..., : 36 * 36].unflatten(-1, (36, 36))


def channels_last(frames):
    return frames.contiguous(memory_format=torch.channels_last)


def every_other(frames):
    return frames.repeat_interleave(2, dim=0)[::2]


@pytest.mark.parametrize("layout", [rows_apart, frames_apart, channels_last, every_other])
@pytest.mark.parametrize("field", ["observation", "next_observation"])
def test_frames_in_any_layout(layout, field):
    compiled, eager = (learner(mode, image=True) for mode in ("compile", "eager"))
    compiled.update(batch(image=True)), eager.update(batch(image=True))
    right = batch(1, image=True)
    frames = getattr(right, field)
    other = layout(frames)
    assert torch.equal(other, frames) and other.stride() != frames.stride()
    assert_same(compiled, eager, right._replace(**{field: other}))


def assert_same(compiled, eager, *batches):
    for one in batches or (batch(1),):
        result, expected = compiled.update(one), eager.update(one)
        torch.testing.assert_close(result.td_error, expected.td_error, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled.flat.data, eager.flat.data, rtol=1e-4, atol=1e-5)


@contextmanager
def threads():
    torch.set_num_threads(2)
    yield


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield


@contextmanager
def matmul_precision():
    torch.set_float32_matmul_precision("high")
    yield


@contextmanager
def forgotten():
    torch._dynamo.reset()
    yield


@pytest.mark.parametrize(
    "state",
    [torch.no_grad, torch.enable_grad, threads, deterministic, matmul_precision, forgotten,
     lambda: torch.device("cpu"), lambda: torch.autograd.set_multithreading_enabled(False)],
)  # fmt: skip
@pytest.mark.parametrize("first", [True, False], ids=["from the start", "later"])
def test_another_state_of_the_process(state, first):
    compiled, eager = learner("compile"), learner("eager")
    if not first:
        compiled.update(batch()), eager.update(batch())
    with state():
        assert_same(compiled, eager)
    assert_same(compiled, eager, batch(2))  # and back


def test_batches_of_any_size_and_dtype_of_frames():
    compiled, eager = learner("compile"), learner("eager")
    for size in (B, 1, 3, B):
        assert_same(compiled, eager, Batch(*(field[:size] for field in batch())))
    doubles = batch()._replace(observation=batch().observation.double())
    assert_same(compiled, eager, doubles, batch())


def test_many_learners_in_turns():
    """More than Dynamo keeps of one function by default."""
    learners = [learner("compile", seed=i) for i in range(10)]
    twins = [learner("eager", seed=i) for i in range(10)]
    for _ in range(2):
        for one, twin in zip(learners, twins, strict=True):
            assert_same(one, twin)
    other = batch()._replace(observation=every_other(batch().observation))
    for one, twin in zip(learners, twins, strict=True):  # each compiles once more
        assert_same(one, twin, other)


@pytest.mark.parametrize("mode", ["eager", "compile"])
@pytest.mark.parametrize("state", [torch.inference_mode, lambda: torch.autocast("cpu")])
def test_what_would_change_the_numbers_is_refused(mode, state):
    one = learner(mode)
    before = one.flat.data.clone()
    with state(), pytest.raises(FastDQNError, match=r"cannot run under torch\.\w+; leave it"):
        one.update(batch())
    assert torch.equal(one.flat.data, before) and one.updates == 0
    one.update(batch())


class Breaks(nn.Module):
    """Asks what its numbers are."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, observation):
        x = self.layer(observation)
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_compiled_is_told_so_in_one_sentence():
    one = learner("compile", Breaks())
    before = one.flat.data.clone()
    vectors = batch()._replace(action=torch.zeros(B).long())
    for _ in range(2):
        with pytest.raises(ConfigError, match="mode = 'compile' cannot compile this") as caught:
            one.update(vectors)
        assert "\n" not in str(caught.value) and "use mode = 'eager'" in str(caught.value)
    assert torch.equal(one.flat.data, before)
    learner("eager", Breaks()).update(vectors)


def test_an_error_of_the_function_itself_is_not_compiling_s():
    def fails(x):
        return x.view(5)

    compiled = compile_pure(fails, "compile", "eager")
    compiled(torch.zeros(5))
    with pytest.raises(ConfigError, match="cannot compile this"):  # found while tracing
        compiled(torch.zeros(6))
    assert compiled(torch.ones(5)).sum() == 5


def broken_backend(graph, inputs):
    raise RuntimeError("ptxas found no room")


def test_why_a_backend_failed_is_told():
    with pytest.raises(ConfigError, match=r"cannot compile this \(.*ptxas found no room"):
        compile_pure(torch.sin, "compile", broken_backend)(torch.zeros(2))


def test_compiling_without_an_end_is_told(monkeypatch):
    monkeypatch.setitem(fastdqn.system.compilation._DYNAMO, "recompile_limit", 10)
    compiled = compile_pure(lambda x: x + 1, "compile", "eager")
    for size in range(1, 11):
        assert compiled(torch.zeros(size)).shape == (size,)
    with pytest.raises(ConfigError, match="compiled 10 times, for other shapes"):
        compiled(torch.zeros(11))
    assert compiled(torch.zeros(2)).shape == (2,)


def test_as_many_shapes_as_the_limit_says():
    compiled = compile_pure(lambda x: x + 1, "compile", "eager")
    for size in range(1, 201):
        assert compiled(torch.zeros(size)).shape == (size,)


@pytest.mark.parametrize("make", [
    lambda: ReplayBuffer(64, 4, Box(0, 1, (3,)), prioritized=True),
    lambda: ReplayBuffer(64, 4, Box(0, 1, (3,)), mode="compile", compile_backend="eager"),
    lambda: SumTree(64), lambda: learner("eager"),
])  # fmt: skip
def test_memory_goes_with_its_owner(make, in_torch):
    """Without the help of garbage collection: a GPU that has no memory left does not ask for it."""
    owner = make()
    gone = weakref.ref(owner)
    gc.collect()
    gc.disable()
    try:
        del owner
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("state", [nullcontext, torch.no_grad])
def test_eager_updates_whatever_the_grad_mode(state):
    one, twin = learner("eager"), learner("eager")
    with state():
        one.update(batch())
    twin.update(batch())
    assert torch.equal(one.flat.data, twin.flat.data)


# --- cuBLAS --------------------------------------------------------------------------------------


def test_importing_the_package_sets_what_cublas_wants(run_python):
    script = "import os, fastdqn; print(os.environ['CUBLAS_WORKSPACE_CONFIG'])"
    assert run_python(script, CUBLAS_WORKSPACE_CONFIG=None) == ":4096:8\n"
    assert run_python(script, CUBLAS_WORKSPACE_CONFIG=":16:8") == ":16:8\n"


def test_a_process_that_multiplied_too_early_is_told_so(monkeypatch):
    def refused(*_):
        raise RuntimeError(
            "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms"
            "(True)` ..., set CUBLAS_WORKSPACE_CONFIG=:4096:8"
        )

    torch.use_deterministic_algorithms(True)
    check_deterministic_products(torch.device("cpu"))
    assert torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(torch.Tensor, "__matmul__", refused)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2")
    with pytest.raises(ConfigError, match=r"deterministic = True comes too late.*':4096:2'"):
        check_deterministic_products(torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_copies_of_a_learner_s_network_share_nothing_compiled():
    one = learner("compile")
    two = learner("compile", copy.deepcopy(one.network))
    one.update(batch())
    assert not torch.equal(one.flat.data, two.flat.data)
    twin = learner("eager")
    assert_same(two, twin)
