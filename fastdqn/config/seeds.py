"""Seeds of a run's parts. Episodes of training, of evaluations and of the final one never coincide.

A generator gets ``subseed(seed, name, rank)``. Env i of N gets its seed + i, so each use needs a
range, which is no hash: training lies in the half of the 31-bit numbers that ``Config.seed`` lies
in, evaluations in the other half, the final one in its own quarter. Ranks would share a range, rank
r beginning ``r * num_envs`` further on; evaluations are rank 0's.
"""

from __future__ import annotations

import zlib

from fastdqn.config.config import Config

_HALF = 2**30
_RANK_STEP = 0x9E3779B1  # odd, so that no rank below 2**32 meets another; and far apart
_MOST_ENVS = 2**16
# Of an evaluation's seeds: half of a half, less what the envs of a training run may take of it
# where their seeds run over its edge, and less the evaluation's own envs.
_QUARTER = _HALF // 2 - 2 * _MOST_ENVS


def subseed(seed: int, name: str, rank: int = 0) -> int:
    """A seed for one generator, so that no two parts draw the same numbers.

    Args:
        seed: Of the run.
        name: Of the part, such as ``replay``.
        rank: Of the process, where several train together; no two get the same number.

    Returns:
        An integer of 32 bits.
    """
    return (zlib.crc32(f"{seed}/{name}".encode()) + rank * _RANK_STEP) % 2**32


def restart_seed(config: Config, env_steps: int) -> int:
    """Of training envs that start anew at a resume: not the episodes of the first start."""
    half = config.seed // _HALF * _HALF
    return half + subseed(config.seed, str(env_steps)) % (_HALF - _MOST_ENVS)


def eval_seed(config: Config, seed: int | None = None) -> int:
    """Of the first env of the final evaluation; a sum, no hash, so that one can type it again.

    Args:
        config: Of the run, whose training seeds are kept clear of.
        seed: Another number for other episodes; None: that of the run.

    Raises:
        ConfigError: Where ``seed`` is none.
    """
    wanted = config.seed if seed is None else config.replace(seed=seed).seed
    return _evaluation_half(config) + wanted % _QUARTER


def periodic_eval_seed(config: Config) -> int:
    """Of evaluations during a run: what was chosen by some episodes is judged by others."""
    return _evaluation_half(config) + _HALF // 2 + subseed(config.seed, "evaluation") % _QUARTER


def _evaluation_half(config: Config) -> int:
    """Where the seeds of evaluations begin: behind training seeds that run over the edge."""
    if config.seed >= _HALF:
        return 0
    return _HALF + (_MOST_ENVS if config.seed + config.num_envs > _HALF else 0)
