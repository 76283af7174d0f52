"""One packed copy to the device; here the layout and contents, on a GPU the whole of it."""

import numpy as np
import pytest
import torch

from fastdqn.system.staging import HostStaging, as_tensor


def step(seed=0, num_envs=3):
    """The arrays of a step, of odd sizes, so that alignment matters."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(0, 256, (num_envs, 5, 5), np.uint8),
        rng.normal(size=num_envs).astype(np.float32),
        rng.random(num_envs) < 0.5,
        rng.random(num_envs) < 0.5,
        torch.tensor(rng.integers(0, 9, num_envs)),
    ]


def check(tensors, arrays):
    assert len(tensors) == len(arrays)
    for tensor, array in zip(tensors, arrays, strict=True):
        wanted = as_tensor(array)
        assert tensor.dtype == wanted.dtype and tensor.shape == wanted.shape
        assert torch.equal(tensor.cpu(), wanted.cpu())


def test_on_the_cpu_nothing_is_copied():
    arrays = step()
    tensors = HostStaging("cpu")(arrays)
    check(tensors, arrays)
    for tensor, array in zip(tensors, arrays, strict=True):
        pointer = array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr()
        assert tensor.data_ptr() == pointer


def test_packing_keeps_every_value_at_a_fixed_and_aligned_address():
    staging = HostStaging("cpu")
    addresses = None
    for seed in range(3):
        arrays = step(seed)
        tensors = staging._move([as_tensor(array) for array in arrays])
        check(tensors, arrays)
        now = [tensor.data_ptr() for tensor in tensors]
        assert addresses in (None, now)  # views on the device never move
        addresses = now
        (packed,) = staging._packed.values()
        buffer = packed.device
        storages = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        assert storages == {buffer.untyped_storage().data_ptr()}  # one buffer, hence one copy
        assert all((address - buffer.data_ptr()) % 16 == 0 for address in now)
        assert packed.host.data_ptr() != buffer.data_ptr()


def test_nothing_overlaps_in_the_buffer():
    staging = HostStaging("cpu")
    tensors = staging._move([as_tensor(array) for array in step()])
    for number, tensor in enumerate(tensors):
        others = [other.clone() for other in tensors]
        tensor.fill_(1)
        for k, other in enumerate(others):
            assert k == number or torch.equal(tensors[k], other)


def test_another_layout_gets_another_buffer():
    staging = HostStaging("cpu")
    for arrays in (step(0, 3), step(1, 8), step(2, 3), step(3)[:2], [np.zeros((0, 4)), np.ones(3)]):
        check(staging._move([as_tensor(array) for array in arrays]), arrays)


def test_layouts_in_turn_keep_their_addresses():
    staging = HostStaging("cpu")
    several = [step(0, 3), step(1, 8)]
    first, again = (
        [
            [t.data_ptr() for t in staging._move([as_tensor(a) for a in arrays])]
            for arrays in several
        ]
        for _ in range(2)
    )
    assert first == again


def test_only_what_is_elsewhere_is_packed():
    # No device but the CPU here: "meta" stands for one, which has shapes but no values.
    staging = HostStaging("meta")
    arrays = step()
    there = torch.zeros(1000, device="meta")
    tensors = staging([*arrays[:2], there, *arrays[2:]])
    assert tensors[2] is there
    for tensor, array in zip(tensors[:2] + tensors[3:], arrays, strict=True):
        assert tensor.device.type == "meta"
        assert tensor.shape == array.shape and tensor.dtype == as_tensor(array).dtype
    assert not staging.fixed  # `there` may be another tensor the next time
    (packed,) = staging._packed.values()
    assert packed.host.numel() < 1000
    assert all(a is b for a, b in zip(staging([there, there]), [there, there], strict=True))
    assert not staging.fixed
    staging(arrays)
    assert staging.fixed


def test_as_tensor_shares_memory_where_it_can():
    array = np.arange(6.0).reshape(2, 3)
    tensor = as_tensor(array)
    array[0, 0] = 9.0
    assert tensor[0, 0] == 9.0
    assert as_tensor(tensor) is tensor


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3).T,
        np.arange(6)[::-1],
        np.arange(12).reshape(3, 4)[:, 1:3],
        np.broadcast_to(np.arange(3), (2, 3)),
    ],
    ids=["transposed", "reversed", "sliced", "read-only"],
)
def test_as_tensor_takes_any_layout_without_a_warning(array):
    tensor = as_tensor(array)
    assert tensor.tolist() == array.tolist()


def test_as_tensor_does_not_let_a_read_only_array_be_written():
    array = np.arange(3)
    array.flags.writeable = False
    as_tensor(array).fill_(7)
    assert array.tolist() == [0, 1, 2]


@pytest.mark.gpu
def test_on_cuda():
    staging = HostStaging("cuda")
    there = torch.arange(5, device="cuda")
    for seed in range(20):
        arrays = step(seed, num_envs=64)
        tensors = staging([*arrays, there])
        assert tensors[-1] is there
        check(tensors[:-1], arrays)  # waits; the next turn overwrites
    assert staging._host_buffer.is_pinned()
