"""Which device, and what it can do."""

from __future__ import annotations

import os

import torch
from torch import nn

from fastdqn.errors import ConfigError


def resolve_device(device: torch.device | str) -> torch.device:
    """``auto`` is CUDA where there is one; CUDA always has its index.

    Raises:
        ConfigError: Where the device does not exist here.
    """
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError, ValueError):  # the last of a number of 64 bits or more
        resolved = torch.device("meta")  # like all that is none for us
    if resolved.type not in ("cpu", "cuda"):
        raise ConfigError(f"device = {device!r} is none for fastdqn; use auto, cpu or cuda.")
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(
                f"device = {str(device)!r} is not there: torch {torch.__version__} sees no CUDA "
                f"device; use device = 'cpu' or install a CUDA build of torch."
            )
        index = resolved.index if resolved.index is not None else torch.cuda.current_device()
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"device = {str(device)!r} is not there: torch sees {torch.cuda.device_count()} "
                f"CUDA device(s), counted from 0."
            )
        return torch.device("cuda", index)
    return resolved


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is fast there: not emulated, but in the hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def convolves(network: nn.Module) -> bool:
    """Whether it has convolutions of images."""
    return _contains(network, nn.Conv2d)


def _contains(network: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(module, kind) for module in network.modules())


def resolve_precision(precision: str, network: nn.Module, device: torch.device) -> str:
    """``auto`` is bf16 for convolutions where the hardware has it, else fp32.

    Raises:
        ConfigError: For bf16 of a network with batch normalisation, whose running statistics
            would be sums of rounded numbers.
    """
    normalises = _contains(network, nn.modules.batchnorm._BatchNorm)
    if isinstance(precision, str) and precision == "auto":
        low = convolves(network) and not normalises and has_bf16(device)
        return "bf16" if low else "fp32"
    if not isinstance(precision, str) or precision not in ("fp32", "bf16"):
        raise ConfigError(f"precision = {precision!r} must be one of auto, fp32, bf16.")
    if precision == "bf16" and normalises:
        raise ConfigError(
            "precision = 'bf16' is not for networks with batch normalisation; use 'fp32'."
        )
    return precision


def check_deterministic_products(device: torch.device) -> None:
    """Multiply once on a CUDA device where deterministic algorithms are asked for.

    Raises:
        ConfigError: Where cuBLAS was started without the setting that needs; they are then no
            longer asked for.
    """
    one = torch.ones((1, 1), device=device)
    try:
        one @ one
    except RuntimeError as error:
        if "CUBLAS_WORKSPACE_CONFIG" not in str(error):
            raise
        torch.use_deterministic_algorithms(False)
        raise ConfigError(
            f"deterministic = True comes too late for this process, which multiplied on CUDA with "
            f"CUBLAS_WORKSPACE_CONFIG = {os.environ.get('CUBLAS_WORKSPACE_CONFIG')!r} before; "
            f"import fastdqn first, or export CUBLAS_WORKSPACE_CONFIG=:4096:8."
        ) from None


def restore_generator(generator: torch.Generator, state: torch.Tensor) -> None:
    """Set a generator to a saved state, if it was saved on the same type of device.

    Otherwise it goes on from its own seed: no device can continue another's stream.
    """
    if state.numel() == generator.get_state().numel():
        generator.set_state(state.cpu())
