"""Seeds of a run's parts. Episodes of training, of evaluations and of the final one never coincide.

Env i of N gets its seed + i, so each use needs a range: training lies in the half of the 31-bit
numbers that ``Config.seed`` lies in, evaluations in the other half, the final one in its own
quarter.
"""

from __future__ import annotations

import zlib

from fastdqn.config.config import Config

_HALF = 2**30
_MOST_ENVS = 2**16
# Of an evaluation's seeds: half of a half, less what the envs of a training run may take of it
# where their seeds run over its edge, and less the evaluation's own envs.
_QUARTER = _HALF // 2 - 2 * _MOST_ENVS


def subseed(seed: int, name: str) -> int:
    """A seed for one generator, so that no two parts draw the same numbers."""
    return zlib.crc32(f"{seed}/{name}".encode())


def restart_seed(config: Config, env_steps: int) -> int:
    """Of training envs that start anew at a resume: not the episodes of the first start."""
    half = config.seed // _HALF * _HALF
    return half + subseed(config.seed, str(env_steps)) % (_HALF - _MOST_ENVS)


def eval_seed(config: Config, seed: int | None = None) -> int:
    """Of the first env of the final evaluation.

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
