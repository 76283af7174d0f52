"""Runs on observations of several parts: what is stored, acted on, saved, resumed and refused."""

import copy
import shutil
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import SyncVectorEnv
from helpers import replay_oracle
from helpers.replay_oracle import MODES, count_bad
from helpers.scripted_env import Script, ScriptedStream, ScriptedVectorEnv
from helpers.short_runs import tiny
from torch import nn

import fastdqn
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint, save_checkpoint
from fastdqn.envs import make_envs
from fastdqn.errors import CheckpointError, ConfigError, EnvError, TrainingError
from fastdqn.frame_format import FrameFormat
from fastdqn.training.train import train

SPACE = Dict(image=Box(0, 255, (6, 6, 3), np.uint8), speed=Box(-9, 99, (2,)), gear=Discrete(3))


class Car(gymnasium.Env):
    """An image, a vector and a category; every eighth step ends an episode."""

    observation_space, action_space = SPACE, Discrete(2, start=1)

    def __init__(self, bad=None):
        self.bad, self.total = bad, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        assert action in (1, 2)
        self.t += 1
        self.total += 1
        return self.observe(), float(action == 2), self.t == 8, False, {}

    def observe(self):
        speed = np.array([self.t, 50 + self.np_random.random()], np.float32)
        if self.bad is not None and self.total > 12:
            speed[1] = self.bad
        image = self.np_random.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        return {"image": image, "speed": speed, "gear": int(self.t % 3)}


def short(path, **changes):
    return tiny(path, **{"torch_threads": 1, "batch_size": 2, "total_env_steps": 120,
                         "learning_starts_env_steps": 60, "replay_capacity": 200,
                         "update_period_env_steps": 16.0, "learning_rate_final": None,
                         **changes})  # fmt: skip


def cars(n=4, **kwargs):
    return SyncVectorEnv([lambda: Car(**kwargs)] * n)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = short(tmp_path_factory.mktemp("cars") / "a", normalize_observations=True)
    return train(config, envs=cars()).run_dir


def normalizer_of(run_dir):
    return fastdqn.load(run_dir, device="cpu").network.encoder.normalizer


# --- acting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [None, 2])
def test_a_policy_acts_on_what_the_env_returns(tmp_path, run, stack):
    run_dir = run
    if stack:
        run_dir = train(short(tmp_path / "b", frame_stack=2), envs=cars()).run_dir
    alone, raw, framed = (fastdqn.load(run_dir, device="cpu") for _ in range(3))
    assert raw.reader is not None and raw.spaces.format.one_hot == (3,)
    envs, stream = cars(3), make_envs(cars(3), frame_stack=stack)
    car, step = Car(), stream.reset(seed=5)
    observations, observation = envs.reset(seed=5)[0], car.reset(seed=5)[0]
    chosen = []
    for _ in range(6):
        with torch.no_grad():
            expected = framed.act(step.observation)
        acted = raw.act(observations)
        one = alone.act(observation)
        assert acted.tolist() == expected.tolist() and one == expected[0]
        chosen += acted.tolist()
        stream.send(expected - stream.action_start)
        step, observations = stream.recv(), envs.step(acted)[0]
        observation = car.step(one)[0]
    assert set(chosen) <= {1, 2}


def test_statistics_are_saved_and_go_on(run, tmp_path):
    rows = 4 * (120 // 4 + 1)
    first = normalizer_of(run)
    assert first.count == rows and first.mean[1] == pytest.approx(50.5, abs=0.2)
    config = fastdqn.Config.load(Path(run) / "config.json")
    shutil.copytree(run, tmp_path / "b")
    changes = {"total_env_steps": 160, "resume": "require"}
    train(config.replace(run_dir=str(tmp_path / "b"), **changes), envs=cars())
    resumed = normalizer_of(tmp_path / "b")
    assert resumed.count == rows + 4 * (40 // 4 + 1), "the envs start anew"
    assert resumed.mean[1] == pytest.approx(50.5, abs=0.2) and resumed.mean[1] != first.mean[1]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_behind_the_bytes_of_an_image_ends_the_run(tmp_path, bad):
    with pytest.raises(TrainingError, match="An observation was not finite between env steps"):
        train(short(tmp_path / "a"), envs=cars(bad=bad))


def test_a_normalizing_wrapper_is_noticed_once(tmp_path):
    words = "NormalizeObservation, whose statistics are not saved .* normalize_observations = True"

    def vector(wrapper):
        return wrapper(gymnasium.make_vec("CartPole-v1", 4))

    def single():
        return gymnasium.wrappers.NormalizeObservation(gymnasium.make("CartPole-v1"))

    by_id = gymnasium.make_vec(
        "CartPole-v1", 4, vectorization_mode="sync",
        wrappers=[gymnasium.wrappers.NormalizeObservation],
    )  # fmt: skip
    for i, envs in enumerate(
        (vector(gymnasium.wrappers.vector.NormalizeObservation), SyncVectorEnv([single] * 4), by_id)
    ):
        with pytest.warns(UserWarning, match=words) as told:
            fastdqn.training.trainer.Trainer(tiny(tmp_path / str(i)), envs=envs).close()
        assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = vector(gymnasium.wrappers.vector.NormalizeReward)
        fastdqn.training.trainer.Trainer(tiny(tmp_path / "other"), envs=other).close()


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 36 + 4 * 3, 2)

    def forward(self, observation):
        return self.layer(observation.float())


def test_a_network_of_the_callers_is_said_to_see_frames(tmp_path):
    words = "; your network sees frames as they are stored"
    for network, told in ((Own(), True), (None, False)):
        trainer = fastdqn.training.trainer.Trainer(
            short(tmp_path / str(told)), envs=cars(), network=network
        )
        trainer.close()
        (row,) = (row for row in trainer.header().splitlines() if row.startswith("observed"))
        assert row.endswith(words) == told


def test_equal_frames_of_other_parts_are_refused(tmp_path):
    """Numbers in the same places that mean something else."""

    def two(*names):
        part = Box(-1, 1, (2,))

        class Two(gymnasium.Env):
            observation_space, action_space = Dict({n: part for n in names}), Discrete(2)

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                return {n: np.zeros(2, np.float32) for n in names}, {}

            def step(self, action):
                over = self.np_random.random() < 0.3
                return {n: np.zeros(2, np.float32) for n in names}, 0.0, over, False, {}

        return SyncVectorEnv([Two] * 4)

    config = short(tmp_path / "a")
    policy = fastdqn.load(train(config, envs=two("a", "b")).run_dir, device="cpu")
    words = "observations made of a, c, where .* have observations made of a, b; "
    with pytest.raises(ConfigError, match=f"^The envs have {words}play it in envs like those"):
        fastdqn.evaluate(policy, two("a", "c"), episodes_per_env=1)
    with pytest.raises(ConfigError, match=f"^The envs have {words}use envs like those"):
        train(config.replace(resume="require"), envs=two("a", "c"))
    with pytest.raises(ConfigError, match=f"^eval_envs have {words}pass eval_envs like those"):
        train(short(tmp_path / "b"), envs=two("a", "b"), eval_envs=two("a", "c"))
    assert fastdqn.evaluate(policy, two("a", "b"), episodes_per_env=1).episodes == 4


def stream_with(**changes):
    stream = ScriptedStream(Script(4, frame_shape=changes.pop("frames", (3,)), dtype="float32"))
    for name, value in changes.items():
        setattr(stream, name, value)
    return stream


@pytest.mark.parametrize(
    ("changes", "options", "error", "words"),
    [
        ({"observation_space": Box(-1, 1, (3,), np.float64)}, {}, ConfigError, "make it a Box of"),
        ({"observation_space": Discrete(3)}, {}, ConfigError, r"= Discrete\(3\) of the stream is"),
        ({"observation_space": Box(-1, 1, ())}, {}, ConfigError, "with one dimension or more"),
        ({"observation_space": None}, {}, ConfigError, "observation_space = None of the stream"),
        ({"frame_format": "images"}, {}, ConfigError, "'images' of the stream is no FrameFormat"),
        ({"frames": (40, 40, 3)}, {}, EnvError, r"channels last; .* np.moveaxis.* \(3, 40, 40\)"),
        ({"frames": (40, 40, 1)}, {}, EnvError, r"channels last; .* np.moveaxis.* \(1, 40, 40\)"),
        ({}, {"observation_scale": "255"}, ConfigError, "no effect on envs that are a stream"),
        ({}, {"store_uint8": True}, ConfigError, "store_uint8 = True has no effect on envs that"),
        ({}, {"observation_keys": ("a",)}, ConfigError, "pass it to make_envs, or leave it out"),
    ],
)
def test_a_stream_of_the_callers_is_told_what_frames_are(tmp_path, changes, options, error, words):
    with pytest.raises(error, match=words):
        train(tiny(tmp_path / "a", **options), envs=stream_with(**changes))
    assert not (tmp_path / "a").exists()


def test_the_advice_for_streams_works(tmp_path):
    config = short(tmp_path / "a", observation_scale="255")
    envs = ScriptedVectorEnv(Script(4))
    run_dir = train(config, envs=make_envs(envs, observation_scale="255")).run_dir
    assert fastdqn.load(run_dir, device="cpu").spaces.format == FrameFormat(False, 255)
    own = stream_with(frame_format=FrameFormat(False, 2))
    run_dir = train(short(tmp_path / "b"), envs=own).run_dir
    policy = fastdqn.load(run_dir, device="cpu")
    assert policy.spaces.format.divisor == 2 and policy.reader is None
    assert policy.act(np.zeros((2, 3), np.float32)).shape == (2,)


# --- forged checkpoints --------------------------------------------------------------------------

PACKED = FrameFormat(False, 1, (3,), (3, 6, 6)).to_dict()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("frame_format", "divisor"), 0, "frame_format.divisor = 0 is no divisor"),
        (("frame_format", "divisor"), 7, "two formats of its frames|do not make its frames"),
        (("frame_format", "one_hot"), [100_001], "is no one_hot"),
        (("frame_format", "packed_image"), [3, 6, 2**40], "is no packed_image"),
        (("frame_format",), {"image": True}, "must be an object"),
        (("network", "frame_format"), {**PACKED, "one_hot": [4]}, "two formats of its frames"),
        (("network", "frame_format", "packed_image"), [300, 6, 6], "does not fit frames of shape"),
        (("network", "frame_format"), None, "unknown to this network|does not|needs to know"),
        (("network", "normalize"), False, "unknown to this network"),
        (("network", "normalize"), 1, "network.normalize = 1 is no normalize"),
        (("observation", "leaves", 0, "shape"), [6, 6, 4], "its observations do not make its fr"),
        (("observation", "leaves", 0, "layout"), "chw", "do not make its frames"),
        (("observation", "leaves", 0, "dtype"), "O", "describes no observation"),
        (("observation", "leaves", 1, "sizes"), [2**40], "describes no observation"),
        (("observation", "leaves"), [], "the observation has no leaves"),
        (("observation",), [], "the observation has no leaves"),
        (("observation", "options"), {"more": 1}, "cannot be read"),
    ],
)
def test_a_forged_observation_is_refused(run, tmp_path, path, value, words):
    state = load_checkpoint(find_checkpoint(Path(run)))
    spec = copy.deepcopy(state["run"]["spec"])
    at = spec
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    forged = {"run": {**state["run"], "spec": spec}, "learner": state["learner"]}
    where = save_checkpoint(tmp_path, 7, forged, keep=1)
    with pytest.raises(CheckpointError, match=words) as error:
        fastdqn.load(where, device="cpu")
    assert len(str(error.value)) < 600


# --- parts of an observation, in every autoreset mode --------------------------------------------


class InParts(ScriptedVectorEnv):
    """Frames as a Dict of two parts, whose join is the frame."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        frame = self.single_observation_space
        self.single_observation_space = Dict(
            first=Box(frame.low[:1], frame.high[:1]), rest=Box(frame.low[1:], frame.high[1:])
        )
        self.observation_space = gymnasium.vector.utils.batch_space(
            self.single_observation_space, self.num_envs
        )

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return self._parts(observation), info

    def step(self, actions):
        observation, *rest, info = super().step(actions)
        if "final_obs" in info:
            final = info["final_obs"]
            if isinstance(final, np.ndarray) and final.dtype.hasobject:
                split = np.full(len(final), None, object)
                for i, frame in enumerate(final):
                    if frame is not None:
                        split[i] = {"first": frame[:1], "rest": frame[1:]}
                info["final_obs"] = split
            else:
                info["final_obs"] = self._parts(final)
        return self._parts(observation), *rest, info

    @staticmethod
    def _parts(frames):
        return {"first": frames[:, :1], "rest": frames[:, 1:]}


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("n_step", "stack"), [(1, None), (3, 2)])
def test_transitions_are_those_of_the_joined_frames(mode, backend, n_step, stack, monkeypatch):
    monkeypatch.setattr(replay_oracle, "ScriptedVectorEnv", InParts)
    script = Script(3, seed=4)
    sampled, bad = count_bad(script, mode, backend, n_step=n_step, stack=stack, steps=80)
    assert sampled > 500 and bad == 0
