"""A VecEnv as a stream: rows against the steps of its envs, one by one; a run of ours on it."""

import numpy as np
import pytest
from gymnasium import spaces
from helpers.short_runs import tiny
from helpers.shown_env import Shown
from helpers.stable_envs import Counted, counted
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecExtractDictObs,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

import fastdqn
from fastdqn.envs.stream import EnvStream, is_stream
from fastdqn.integrations.sb3 import VecEnvStream


def channels_first(image):
    return np.moveaxis(image, -1, 0)


@pytest.mark.parametrize(
    ("shape", "stack", "frame"),
    [((8, 8, 1), 4, (8, 8)), ((8, 8, 1), 1, (1, 8, 8)), ((16, 16, 3), 2, (3, 16, 16)),
     ((5,), 1, (5,)), ((5,), 3, (5,))],
)  # fmt: skip
def test_rows_are_what_the_envs_did(shape, stack, frame):
    """Naive: the envs once more, without SB3, and a list of what each returned."""
    n = 2
    stream = VecEnvStream(counted(n, shape, stack))
    assert isinstance(stream, EnvStream) and is_stream(stream)
    assert stream.frame_stack == (None if stack == 1 else stack)
    assert stream.observation_space.shape == frame and stream.stack_padding == "zero"
    alone = [Counted(i, shape) for i in range(n)]

    def framed(observation):
        pixels = observation.ndim == 3
        return (channels_first(observation) if pixels else observation).reshape(frame)

    step = stream.reset(seed=3)
    for i, env in enumerate(alone):
        assert np.array_equal(step.observation[i], framed(env.reset()[0]))
    assert step.first.all() and not step.reward.any() and step.reset is None
    ends = set()
    for k in range(40):
        actions = np.array([k % 3, (k + 1) % 3])
        stream.send(actions)
        step = stream.recv()
        assert not step.first.any()
        for i, env in enumerate(alone):
            seen, reward, terminated, truncated, _ = env.step(actions[i])
            assert np.array_equal(step.observation[i], framed(seen))
            assert step.reward[i] == np.float32(reward)
            assert (step.terminated[i], step.truncated[i]) == (terminated, truncated)
            assert step.reset[i] == (terminated or truncated)
            if step.reset[i]:
                ends.add((terminated, truncated))
                assert np.array_equal(step.reset_observation[i], framed(env.reset()[0]))
    assert ends == {(True, False), (False, True)}
    stream.close()
    stream.close()


def test_actions_start_where_the_space_does():
    class Shifted(Counted):
        def __init__(self):
            super().__init__(0, (3,))
            self.action_space = spaces.Discrete(3, start=-1)

        def step(self, action):
            taken.append(int(action))
            return super().step(action)

    taken = []
    stream = VecEnvStream(DummyVecEnv([Shifted]))
    assert (stream.num_actions, stream.action_start) == (3, -1)
    stream.reset()
    for action in (0, 1, 2):
        stream.send(np.array([action]))
        stream.recv()
    assert taken == [-1, 0, 1]


def test_dictionaries_and_categories_become_frames():
    class Parts(Counted):
        def __init__(self):
            super().__init__(0, (3,))
            self.observation_space = spaces.Dict(
                {"seen": self.observation_space, "room": spaces.Discrete(4)}
            )

        def _see(self):
            return {"seen": super()._see(), "room": self.episode % 4}

    stream = VecEnvStream(DummyVecEnv([Parts, Parts]))
    step = stream.reset()
    assert step.observation.shape == (2, 4) and step.observation[0, 0] == 1  # categories first
    for _ in range(12):
        stream.send(np.zeros(2, int))
        step = stream.recv()
    assert step.observation.shape == (2, 4)
    chosen = VecEnvStream(DummyVecEnv([Parts]), observation_keys=("seen",))
    assert chosen.observation_space.shape == (3,)


@pytest.mark.parametrize("shape", [(5,), (8, 8, 1)])
def test_a_run_of_ours_learns_on_them(tmp_path, shape):
    stream = VecEnvStream(counted(4, shape, 1 if len(shape) == 1 else 4))
    config = tiny(tmp_path / "run", num_envs=4, network="mlp", save_final_checkpoint=False,
                  checkpoint_replay="exit")  # fmt: skip
    result = fastdqn.train(config, envs=stream)
    assert result.summary["env_steps"] == 240 and result.summary["updates"] == 20
    assert result.summary["episodes"] > 20


def test_seeds_go_to_the_envs():
    class Seeded(Counted):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=seed)

    seeds = []
    VecEnvStream(DummyVecEnv([lambda: Seeded(0), lambda: Seeded(1)])).reset(seed=7)
    assert seeds == [7, 8]


def test_what_vec_normalize_makes_is_what_is_learned_from():
    envs = VecNormalize(counted(2, (3,), 1))
    stream = VecEnvStream(envs)
    stream.reset()
    stream.send(np.zeros(2, int))
    step = stream.recv()
    assert np.array_equal(step.observation, envs.normalize_obs(envs.get_original_obs()))


def test_an_env_that_raises_is_named():
    class Broken(Counted):
        def step(self, action):
            raise ZeroDivisionError("by design")

    stream = VecEnvStream(DummyVecEnv([lambda: Broken(0)]))
    stream.reset()
    stream.send(np.zeros(1, int))
    with pytest.raises(fastdqn.EnvFailure, match=r"step .*ZeroDivisionError: by design"):
        stream.recv()


def test_calls_out_of_order_are_refused():
    stream = VecEnvStream(counted(2))
    with pytest.raises(fastdqn.EnvError, match=r"reset\(\) first"):
        stream.send(np.zeros(2, int))
    stream.reset()
    with pytest.raises(fastdqn.EnvError, match=r"send\(actions\) first"):
        stream.recv()
    stream.send(np.zeros(2, int))
    with pytest.raises(fastdqn.EnvError, match=r"recv\(\) in between"):
        stream.send(np.zeros(2, int))
    stream.reset()
    with pytest.raises(fastdqn.EnvError, match="action of env 1 is 3"):
        stream.send(np.array([0, 3]))
    stream.close()
    with pytest.raises(fastdqn.EnvError, match="closed"):
        stream.reset()


def test_a_vec_env_that_hides_last_observations_is_refused():
    class Hiding(DummyVecEnv):
        def step_wait(self):
            *rest, infos = super().step_wait()
            for info in infos:
                info.pop("terminal_observation", None)
            return *rest, infos

    stream = VecEnvStream(Hiding([lambda: Counted(0)]))
    stream.reset()
    with pytest.raises(fastdqn.EnvError, match=r"infos\[0\]\['terminal_observation'\]"):
        for _ in range(10):
            stream.send(np.zeros(1, int))
            stream.recv()


def test_worker_processes():
    stream = VecEnvStream(SubprocVecEnv([Counted], start_method="forkserver"))
    try:
        stream.reset()
        stream.send(np.zeros(1, int))
        assert stream.recv().observation.shape == (1, 1, 8, 8)
    finally:
        stream.close()


def test_stacks_that_one_frame_cannot_stand_for_stay_whole():
    moved = VecEnvStream(VecNormalize(counted(2, (5,), stack=3)))
    assert moved.frame_stack is None and moved.observation_space.shape == (15,)
    kept = VecEnvStream(VecNormalize(counted(2, (5,), stack=3), norm_obs=False))
    assert kept.frame_stack == 3 and kept.observation_space.shape == (5,)
    parts = VecFrameStack(DummyVecEnv([lambda: SimpleMultiObsEnv(random_start=False)]), 2)
    assert VecEnvStream(parts).frame_stack is None


class OwnStack(Counted):
    """A stack that the env makes itself, its first frame repeated."""

    def __init__(self, wrong=False):
        super().__init__(0, (3,))
        self.observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.wrong = wrong

    def reset(self, **kwargs):
        self.before = None
        return super().reset(**kwargs)

    def _see(self):
        seen = super()._see()
        before = seen if self.before is None or self.wrong else self.before
        self.before = seen
        return np.concatenate([before, seen])


def play(stream):
    stream.reset()
    for _ in range(20):
        stream.send(np.zeros(1, int))
        step = stream.recv()
    return step


def test_stacks_that_nobody_vouches_for_are_looked_at():
    repeats = {"frame_stack": 2, "stack_padding": "repeat"}
    step = play(VecEnvStream(DummyVecEnv([OwnStack]), **repeats))
    assert step.observation.shape == (1, 3)
    with pytest.raises(fastdqn.EnvError, match="use 'repeat'"):
        play(VecEnvStream(DummyVecEnv([OwnStack]), frame_stack=2))
    with pytest.raises(fastdqn.EnvError, match="moved on by one of 2 frames"):
        play(VecEnvStream(DummyVecEnv([lambda: OwnStack(wrong=True)]), **repeats))


def test_an_image_of_sb3s_has_its_channels_first_whatever_its_sizes():
    class Odd(Counted):
        def __init__(self):
            super().__init__(0, (8, 8, 1))
            self.observation_space = spaces.Box(0, 255, (4, 5, 4), np.uint8)

        def _see(self):
            return np.zeros((4, 5, 4), np.uint8)

    assert VecEnvStream(DummyVecEnv([Odd])).observation_space.shape == (4, 5, 4)


@pytest.mark.filterwarnings("ignore:Treating image space as channels-last")  # SB3's
@pytest.mark.parametrize(
    ("space", "stack", "order", "found"),
    [
        (spaces.Box(-1, 1, (3, 4)), 4, "first", None),
        (spaces.Box(-1, 1, (3, 4)), 4, None, 4),
        (spaces.Box(-1, 1, (3,)), 4, "first", 4),
        # More channels than rows: the whole is no longer known for one with its channels first.
        (spaces.Box(0, 255, (3, 36, 36), np.uint8), 18, None, None),
        (spaces.Box(0, 255, (3, 36, 36), np.uint8), 4, None, 4),
    ],
)
def test_stacks_along_another_axis_than_the_space_tells_stay_whole(space, stack, order, found):
    envs = VecFrameStack(DummyVecEnv([lambda: Shown(space)]), stack, channels_order=order)
    stream = VecEnvStream(envs)
    assert stream.frame_stack == found
    frame = stream.reset(seed=0).observation
    whole = envs.stacked_obs.stacked_obs
    newest = whole[:, -3:] if len(space.shape) == 3 else whole[..., -space.shape[-1] :]
    assert np.array_equal(frame.ravel(), (whole if found is None else newest).ravel())


@pytest.mark.parametrize("transposed", [False, True])
def test_a_stacked_part_of_a_dictionary_is_told_by_its_own_axis(transposed):
    space = spaces.Dict(a=spaces.Box(-1, 1, (3,)), b=spaces.Box(0, 255, (36, 40, 1), np.uint8))
    for key in space:
        envs = VecFrameStack(DummyVecEnv([lambda: Shown(space)]), 4)
        envs = VecExtractDictObs(VecTransposeImage(envs) if transposed else envs, key)
        assert VecEnvStream(envs).frame_stack == 4
