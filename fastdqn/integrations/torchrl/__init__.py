"""fastdqn's parts behind TorchRL's interfaces: a sampler, a replay, actors, a loss, a stream.

May import training and below, and TorchRL; nobody imports it. Within this package ``torchrl`` is
TorchRL itself. Begin with ``frame_replay`` and ``loss``.
"""

from fastdqn.errors import ConfigError

try:
    import torchrl as _torchrl  # noqa: F401
except ImportError as error:
    raise ConfigError("fastdqn.integrations.torchrl needs TorchRL: pip install torchrl.") from error

from fastdqn.integrations.torchrl.actor import q_value_actor
from fastdqn.integrations.torchrl.frame_replay import FrameReplayBuffer
from fastdqn.integrations.torchrl.loss import DQNLossModule
from fastdqn.integrations.torchrl.sampler import SumTreeSampler
from fastdqn.integrations.torchrl.stream import TorchRLStream

__all__ = [
    "DQNLossModule",
    "FrameReplayBuffer",
    "SumTreeSampler",
    "TorchRLStream",
    "q_value_actor",
]
