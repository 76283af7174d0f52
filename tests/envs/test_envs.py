"""The contract of streams: rows, whatever the mode and the arrays of the envs behind them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from helpers.scripted_env import Script, ScriptedEnv, ScriptedStream, ScriptedVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fastdqn.envs import EnvStream, make_envs
from fastdqn.envs.gymnasium import GymnasiumStream
from fastdqn.errors import EnvError, EnvFailure

MODES = ["NEXT_STEP", "SAME_STEP", "DISABLED"]
FLOATS = Script(3, seed=1)
BYTES = Script(3, seed=1, frame_shape=(2, 4), dtype="uint8")


def env_fns(script: Script, **kwargs: Any) -> list[Any]:
    return [partial(ScriptedEnv, script, i, **kwargs) for i in range(script.num_envs)]


def sync(script: Script, mode: str, reuse_buffer: bool = False, **kwargs: Any) -> SyncVectorEnv:
    fns = env_fns(script, reuse_buffer=reuse_buffer)
    return SyncVectorEnv(fns, autoreset_mode=AutoresetMode[mode], **kwargs)


def forked(script: Script, mode: str, **kwargs: Any) -> AsyncVectorEnv:
    mode_ = AutoresetMode[mode]
    return AsyncVectorEnv(env_fns(script), autoreset_mode=mode_, context="fork", **kwargs)


def host(x: Any) -> np.ndarray:
    return x.cpu().numpy().copy() if isinstance(x, torch.Tensor) else np.array(x)


def collect(stream: EnvStream, script: Script, steps: int, seed: int | None = 0) -> list[list]:
    """Rows of each env in order: ((env, episode, t), action, reward, terminated, truncated, first).

    Checks the structure of every step on the way.
    """
    rows: list[list] = [[] for _ in range(script.num_envs)]

    def add(step: Any, actions: Any) -> None:
        assert host(step.observation).dtype == stream.observation_space.dtype
        assert host(step.reward).dtype == np.float32
        kinds = {type(x) for x in step if x is not None}
        assert len(kinds) == 1, kinds
        for flags in (step.terminated, step.truncated, step.first):
            assert host(flags).dtype == bool and flags.shape == (script.num_envs,)
        codes = script.decode(step.observation)
        scalars = (host(x) for x in (step.reward, step.terminated, step.truncated, step.first))
        for i, (code, *values) in enumerate(zip(codes, *scalars, strict=True)):
            rows[i].append((tuple(code.tolist()), actions[i], *(v.item() for v in values)))
        if step.reset is not None:
            assert host(step.reset).dtype == bool
            codes = script.decode(step.reset_observation)
            for i in np.flatnonzero(host(step.reset)):
                rows[i].append((tuple(codes[i].tolist()), 0, 0.0, False, False, True))

    step = stream.reset(seed=seed)
    assert step.reset is None and step.reset_observation is None and host(step.first).all()
    add(step, [0] * script.num_envs)
    for _ in range(steps):
        # The newest observation of an env is the second row where there is one.
        newest = host(step.observation).copy()
        if step.reset is not None:
            newest[host(step.reset)] = host(step.reset_observation)[host(step.reset)]
        actions = script.act(newest)
        stream.send(torch.as_tensor(actions) if stream_is_torch(step) else actions)
        step = stream.recv()
        mode = getattr(stream, "autoreset_mode", None)
        if mode is not None:
            assert (step.reset is None) == (mode is AutoresetMode.NEXT_STEP)
        add(step, actions)
    return rows


def stream_is_torch(step: Any) -> bool:
    return isinstance(step.observation, torch.Tensor)


def transitions(rows: list[list]) -> Counter:
    """1-step transitions by the rules of a row: t starts one iff row t + 1 is not ``first``."""
    found: Counter = Counter()
    for env_rows in rows:
        for (state, *_), row in pairwise(env_rows):
            following, action, reward, terminated, truncated, first = row
            if not first:
                found[state, action, reward, terminated, truncated, following] += 1
    return found


def check_rows(rows: list[list], script: Script) -> None:
    """Every row is what the script says, and follows the row before it."""
    for env, env_rows in enumerate(rows):
        assert env_rows[0][0] == (env, 0, 0) and env_rows[0][-1]
        for before, row in pairwise(env_rows):
            (_, episode, t), action, reward, terminated, truncated, first = row
            if first:
                over = before[0][2] == script.length(env, before[0][1])
                assert over and (episode, t) == (before[0][1] + 1, 0)
                assert (reward, terminated, truncated) == (0.0, False, False)
            else:
                assert (env, episode, t - 1) == before[0]
                expected = script.transition(*before[0], n=1)
                assert (action, reward) == (expected.action, expected.reward)
                assert (terminated, truncated) == script.flags(env, episode, t)


def check_stream(envs: VectorEnv, script: Script, steps: int = 120) -> Counter:
    stream = make_envs(envs)
    rows = collect(stream, script, steps)
    stream.close()
    check_rows(rows, script)
    return transitions(rows)


# --- the script itself ------------------------------------------------------------------------


def test_the_script_has_every_kind_of_episode() -> None:
    script = Script(8, life_loss=True, unflagged=True)
    env, episode = np.meshgrid(np.arange(8), np.arange(100))
    assert set(np.unique(script.ending(env, episode))) == {0, 1, 2, 3}
    lengths = script.length(env, episode)
    assert lengths.min() == 1 and lengths.max() == script.max_length
    assert (lengths == 1).mean() > 0.15
    rewards = script.reward(env, episode, 0, 0)
    assert len(np.unique(rewards)) == 65
    assert 0.05 < script.flags(env, episode, 1)[0].mean() < 0.7


@pytest.mark.parametrize("script", [FLOATS, BYTES])
def test_frames_decode_to_their_row(script: Script) -> None:
    env, episode, t = np.array([0, 2, 1]), np.array([0, 251, 10_000]), np.array([0, 7, 1_000])
    frames = script.encode(env, episode, t)
    assert frames.shape == (3, *script.frame_shape) and frames.dtype == script.dtype
    assert script.decode(frames).tolist() == np.stack([env, episode, t], -1).tolist()
    if script.dtype == "uint8":
        assert frames.min() > 0
        assert (script.decode(np.zeros_like(frames)) == -1).all()


@pytest.mark.parametrize("n", [1, 3, 10])
def test_the_two_oracles_agree(n: int) -> None:
    script = Script(4, seed=3, life_loss=True, unflagged=True)
    starts, singles = [], []
    for env in range(4):
        for episode in range(20):
            for t in range(int(script.length(env, episode))):
                starts.append((env, episode, t))
                singles.append(script.transition(env, episode, t, n, 0.9, 4))
    env, episode, t = np.array(starts).T
    batch = script.expected_batch(env, episode, t, n, 0.9)
    np.testing.assert_allclose(batch["reward"], [x.reward for x in singles], rtol=1e-12)
    np.testing.assert_allclose(batch["discount"], [x.discount for x in singles], rtol=1e-12)
    assert batch["action"].tolist() == [x.action for x in singles]
    assert batch["next_t"].tolist() == [x.next_state[-1][2] for x in singles]  # type: ignore
    for padding in ("zero", "repeat"):
        stacks = script.expected_stack(env, episode, t, 4, padding)
        singles = [script.transition(*start, n, 0.9, 4, padding) for start in starts]
        for stack, single in zip(stacks.tolist(), singles, strict=True):
            assert [tuple(x) for x in stack] == [x or (-1, -1, -1) for x in single.state]


@pytest.mark.parametrize("two_rows", [False, True])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_scripted_stream_gives_the_transitions_of_its_script(two_rows: bool, backend: str) -> None:
    script = Script(3, seed=5, life_loss=True, unflagged=True)
    stream = ScriptedStream(script, two_rows=two_rows, backend=backend)
    assert isinstance(stream, EnvStream)
    rows = collect(stream, script, 200)
    check_rows(rows, script)
    found = {(key[0], key[-1]) for key in transitions(rows)}
    complete = min(env_rows[-1][0][1] for env_rows in rows)
    assert complete > 10
    for expected in script.expected_transitions(complete):
        assert (expected.state[0], expected.next_state[0]) in found


# --- rows of every kind of env ----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("script", [FLOATS, BYTES], ids=["float32", "uint8"])
def test_rows_of_scripted_envs(mode: str, backend: str, script: Script) -> None:
    check_stream(ScriptedVectorEnv(script, mode, backend=backend), script)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("final_obs", ["objects", "dense"])
def test_rows_with_either_form_of_final_obs(backend: str, final_obs: str) -> None:
    """G2 and A11: an object array with holes, or a dense array with junk in the other rows."""
    check_stream(ScriptedVectorEnv(BYTES, "SAME_STEP", backend=backend, final_obs=final_obs), BYTES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_rows_of_envs_that_reuse_their_buffer(mode: str, backend: str) -> None:
    """G7: in DISABLED the reset overwrites the final observation if nobody copied it."""
    envs = ScriptedVectorEnv(FLOATS, mode, backend=backend, reuse_buffer=True)
    check_stream(envs, FLOATS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("copy", [True, False])
def test_rows_of_sync_vector_env(mode: str, copy: bool) -> None:
    # In SAME_STEP Gymnasium itself loses the final observation of envs that reuse their buffer.
    check_stream(sync(FLOATS, mode, reuse_buffer=mode != "SAME_STEP", copy=copy), FLOATS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shared_memory", [True, False])
def test_rows_of_async_vector_env(mode: str, shared_memory: bool) -> None:
    check_stream(forked(BYTES, mode, copy=False, shared_memory=shared_memory), BYTES, 60)


def test_a_rude_reset_row_is_zeroed() -> None:
    """The reward (even NaN) and the flags of a reset row belong to no transition."""
    for backend in ("numpy", "torch"):
        envs = ScriptedVectorEnv(FLOATS, "NEXT_STEP", backend=backend, rude=True)
        check_stream(envs, FLOATS)


def test_all_modes_and_backends_give_the_same_transitions() -> None:
    found = {}
    complete = 1_000
    for mode in MODES:
        for backend in ("numpy", "torch"):
            stream = make_envs(ScriptedVectorEnv(FLOATS, mode, backend=backend))
            rows = collect(stream, FLOATS, 300)
            complete = min(complete, *(env_rows[-1][0][1] for env_rows in rows))
            found[mode, backend] = transitions(rows)
        found[mode, "sync"] = transitions(collect(make_envs(sync(FLOATS, mode)), FLOATS, 300))
    assert complete > 20

    def whole(counter: Counter) -> Counter:
        return Counter({k: v for k, v in counter.items() if k[0][1] < complete})

    reference = whole(found["NEXT_STEP", "numpy"])
    assert len(reference) == len(list(FLOATS.expected_transitions(complete)))
    assert set(reference.values()) == {1}
    for counter in found.values():
        assert whole(counter) == reference


@given(
    script=st.builds(
        Script,
        num_envs=st.integers(1, 4),
        seed=st.integers(0, 2**31),
        num_actions=st.integers(1, 6),
        max_length=st.integers(1, 7),
        frame_shape=st.sampled_from([(3,), (2, 2), (5,)]),
    ),
    mode=st.sampled_from(MODES),
    backend=st.sampled_from(["numpy", "torch"]),
    final_obs=st.sampled_from(["objects", "dense"]),
    reuse_buffer=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_script_gives_its_rows(script: Script, mode: str, **kwargs: Any) -> None:
    check_stream(ScriptedVectorEnv(script, mode, **kwargs), script, 40)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_torch_rows_are_made_without_asking_the_device(device: str) -> None:
    """No operator that makes the host wait; env and reset of mode DISABLED excepted."""

    class NoSync(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None):
            name = func.overloadpacket.__name__
            assert name not in ("_local_scalar_dense", "nonzero", "index", "is_nonzero"), name
            return func(*args, **(kwargs or {}))

    class Canned(ScriptedVectorEnv):
        """A recorded env, so that only the stream's own operators are seen."""

        def step(self, actions: Any) -> Any:
            return next(tape)

    for mode in ("NEXT_STEP", "SAME_STEP"):
        recorder = ScriptedVectorEnv(FLOATS, mode, backend="torch", device=device)
        recorder.reset(seed=0)
        actions = torch.zeros(3, dtype=torch.int64, device=device)
        tape_ = [recorder.step(actions) for _ in range(40)]
        assert any(answer[2].any() for answer in tape_)
        for answer in tape_:  # as an env that lives on a device does
            answer[-1].setdefault("final_obs", torch.zeros(3, 3, device=device))
        if mode == "NEXT_STEP":
            for answer in tape_:
                answer[-1].clear()
        tape = iter(tape_)
        stream = GymnasiumStream(Canned(FLOATS, mode, backend="torch", device=device))
        stream.reset()
        for _ in range(40):
            if device == "cpu":  # there the values of actions are checked
                stream.send(actions)
            with NoSync():
                if device != "cpu":
                    torch.cuda.set_sync_debug_mode("error")
                    stream.send(actions)
                stream.recv()
                if device != "cpu":
                    torch.cuda.set_sync_debug_mode("default")


def test_cartpole_on_its_vector_entry_point_equals_the_raw_env() -> None:
    stream = make_envs("CartPole-v1", 4, seed=7)
    raw = gymnasium.make_vec("CartPole-v1", 4)
    observation, _ = raw.reset(seed=7)
    np.testing.assert_array_equal(stream.reset().observation, observation)
    generator, ended = np.random.default_rng(0), np.zeros(4, bool)
    for _ in range(200):
        actions = generator.integers(0, 2, 4)
        observation, reward, terminated, truncated, _ = raw.step(actions)
        stream.send(actions)
        step = stream.recv()
        np.testing.assert_array_equal(step.observation, observation)
        np.testing.assert_array_equal(step.first, ended)
        np.testing.assert_array_equal(step.reward, np.where(ended, 0, reward))
        np.testing.assert_array_equal(step.terminated, terminated)
        ended = terminated | truncated
    assert stream.stack_padding == "repeat" and stream.frame_stack is None


def test_cartpole_is_truncated_at_500() -> None:
    envs = gymnasium.make_vec("CartPole-v1", 2)
    stream = make_envs("CartPole-v1", 2)
    assert type(stream._envs) is type(envs)  # type: ignore[attr-defined]
    stream.reset(seed=0)
    for t in range(1, 501):
        stream._envs.state[:] = 0.0  # type: ignore[attr-defined]  # held upright
        stream.send(np.zeros(2, np.int64))
        step = stream.recv()
        assert (step.truncated == (t == 500)).all() and not step.terminated.any()
    stream.send(np.zeros(2, np.int64))
    assert stream.recv().first.all()


# --- spaces ------------------------------------------------------------------------------------


class Spaces(ScriptedVectorEnv):
    """A scripted env with other spaces and another dtype of observations."""

    def __init__(self, observation: Any = None, action: Any = None, dtype: Any = None) -> None:
        super().__init__(FLOATS)
        self.dtype = dtype
        if observation is not None:
            self.single_observation_space = observation
            self.observation_space = gymnasium.vector.utils.batch_space(observation, 3)
        if action is not None:
            self.single_action_space = action

    def _give(self, x: np.ndarray) -> Any:
        return x.astype(self.dtype) if self.dtype and x.ndim > 1 else x


@pytest.mark.parametrize(
    ("space", "fix"),
    [
        (spaces.Box(-1, 1, (2,)), "discretise"),
        (spaces.MultiDiscrete([2, 3]), "discretise"),
        (spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]), "discretise"),
        (spaces.MultiBinary(3), "discretise"),
    ],
)
def test_other_action_spaces_are_refused(space: Any, fix: str) -> None:
    with pytest.raises(EnvError, match=fix) as error:
        make_envs(Spaces(action=space))
    assert str(space) in str(error.value)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Text(5), "no numbers"),
        (spaces.Dict({}), "no numbers"),
        (spaces.Box(0, 1, (0,)), "no numbers"),
        (spaces.Sequence(spaces.Box(0, 1, (2,))), "wrap each env so that it is a Box"),
        (spaces.Dict(a=spaces.Sequence(spaces.Discrete(2))), "choose others by observation_keys"),
    ],
    ids=str,
)
def test_other_observation_spaces_are_refused(space: Any, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        make_envs(Spaces(observation=space))


def test_one_action_is_allowed() -> None:
    assert make_envs(Spaces(action=spaces.Discrete(1))).num_actions == 1


@pytest.mark.parametrize("dtype", ["float64", "int64", "int8", "bool", "float16"])
def test_other_dtypes_become_float32(dtype: str) -> None:
    low, high = (0, 1) if dtype == "bool" else (-100, 100)
    if dtype == "float64":
        low, high = -1e300, 1e300  # infinite in float32, without a warning
    stream = make_envs(Spaces(spaces.Box(low, high, (3,), dtype), dtype=dtype))
    wanted = "uint8" if dtype == "bool" else "float32"  # flags are bytes that are not divided
    assert stream.observation_space.dtype == wanted and stream.frame_format.divisor == 1
    step = stream.reset()
    assert step.observation.dtype == wanted
    assert stream.observation_space.contains(step.observation[0])


def test_unwrapped_scalar_observations() -> None:
    class Scalar(Spaces):
        def _give(self, x: np.ndarray) -> Any:
            return x[:, 2] if x.ndim > 1 else x

    stream = make_envs(Scalar(spaces.Box(0, 100, (), np.float32)))
    assert stream.reset().observation.shape == (3, 1)


@pytest.mark.parametrize(
    ("space", "dtype"),
    [("uint8", "float32"), ("uint8", "int64"), ("bool", "float32"), ("int64", "float32")],
)
def test_a_space_that_lies_about_the_dtype_is_refused(space: str, dtype: str) -> None:
    stream = make_envs(Spaces(spaces.Box(0, 1, (3,), space), dtype=dtype))
    with pytest.raises(EnvError, match=f"{dtype}.*{space}"):
        stream.reset()


def test_a_space_that_lies_about_the_shape_is_refused() -> None:
    with pytest.raises(EnvError, match=r"\(3, 3\).*\(3, 4\)"):
        make_envs(Spaces(spaces.Box(0, 1, (4,)))).reset()


def test_a_batch_of_another_size_than_num_envs_is_refused() -> None:
    """A13: with batch_size < num_envs the rows of a step come from other envs each time."""
    envs = ScriptedVectorEnv(FLOATS)
    envs.num_envs = 6
    with pytest.raises(EnvError, match="batch_size"):
        make_envs(envs)


class Broken(ScriptedVectorEnv):
    """A scripted env that breaks its contract after the reset."""

    def __init__(self, what: str, value: Any, mode: str = "NEXT_STEP") -> None:
        super().__init__(FLOATS, mode)
        self.what, self.value = what, value

    def step(self, actions: Any) -> Any:
        names = ["observation", "reward", "terminated", "truncated", "info"]
        answer = dict(zip(names, super().step(actions), strict=True))
        answer[self.what] = self.value(answer[self.what])
        return tuple(answer.values())


@pytest.mark.parametrize(
    ("what", "value", "message"),
    [
        ("observation", lambda x: x[:2], "shape"),
        ("observation", lambda x: x[:, :1], "shape"),
        ("observation", lambda x: x.astype(np.complex64), "dtype"),
        ("reward", lambda x: x[:, None].repeat(2, 1), "reward"),
        ("reward", lambda x: 0.0, "reward"),
        ("terminated", lambda x: x[:1], "terminated"),
        ("truncated", lambda x: x[None].repeat(2, 0), "truncated"),
    ],
)
def test_wrong_answers_of_a_step_are_refused(what: str, value: Any, message: str) -> None:
    stream = make_envs(Broken(what, value))
    stream.reset()
    stream.send(np.zeros(3, np.int64))
    with pytest.raises(EnvError, match=message):
        stream.recv()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda info: {}, "without info"),
        (lambda info: {"final_obs": np.full(3, None, object)}, "final_obs"),
        (lambda info: {"final_obs": [np.zeros(7)] * 3}, "final_obs"),
        (lambda info: {"final_obs": np.zeros((3, 1), np.float32)}, "shape"),
        (lambda info: {"final_obs": np.zeros((3, 3), np.complex64)}, "dtype"),
    ],
)
def test_same_step_without_a_final_observation_is_refused(value: Any, message: str) -> None:
    stream = make_envs(Broken("info", value, "SAME_STEP"))
    stream.reset()
    with pytest.raises(EnvError, match=message):
        for _ in range(FLOATS.max_length):
            stream.send(np.zeros(3, np.int64))
            stream.recv()


# --- the mode -----------------------------------------------------------------------------------


def test_the_mode_is_read_from_the_attribute_first() -> None:
    envs = ScriptedVectorEnv(FLOATS, "SAME_STEP")
    envs.autoreset_mode = AutoresetMode.DISABLED
    assert make_envs(envs).autoreset_mode is AutoresetMode.DISABLED  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["SameStep", AutoresetMode.SAME_STEP])
def test_the_mode_may_be_a_string(mode: Any) -> None:
    envs = ScriptedVectorEnv(FLOATS)
    envs.metadata = {"autoreset_mode": mode}
    assert make_envs(envs).autoreset_mode is AutoresetMode.SAME_STEP  # type: ignore[attr-defined]


@pytest.mark.parametrize("metadata", [{}, {"autoreset_mode": "sometimes"}])
def test_a_missing_or_unknown_mode_is_refused(metadata: dict) -> None:
    """G8: Gymnasium would warn and assume NEXT_STEP."""
    envs = ScriptedVectorEnv(FLOATS)
    envs.metadata = metadata
    with pytest.raises(EnvError, match=r"AutoresetMode\.NEXT_STEP"):
        make_envs(envs)


def test_the_metadata_that_all_vector_envs_share_is_no_answer(monkeypatch: Any) -> None:
    """ale-py writes its mode there, so that others seem to have it, too."""
    monkeypatch.setitem(VectorEnv.metadata, "autoreset_mode", AutoresetMode.SAME_STEP)
    envs = ScriptedVectorEnv(FLOATS)
    del envs.metadata
    monkeypatch.delattr(ScriptedVectorEnv, "metadata")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    with pytest.raises(EnvError, match="does not say when it resets"):
        make_envs(envs)


def test_the_mode_is_seen_through_wrappers() -> None:
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(sync(FLOATS, "SAME_STEP"))
    check_stream(envs, FLOATS)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_disabled_resets_just_the_envs_that_ended(backend: str) -> None:
    envs = ScriptedVectorEnv(FLOATS, "DISABLED", backend=backend)
    stream = make_envs(envs)
    step = stream.reset()
    ended = []
    for _ in range(30):
        stream.send(np.zeros(3, np.int64))
        step = stream.recv()
        mask = host(step.terminated | step.truncated)
        assert (host(step.reset) == mask).all()
        if mask.any():
            ended.append(mask.tolist())
        step.reset[:] = True  # the caller's to keep: the env has a mask of its own
    assert [mask.tolist() for mask in envs.masks] == ended
    assert any(sum(mask) < 3 for mask in ended)


def test_single_envs_and_strangers_are_refused() -> None:
    with pytest.raises(EnvError, match="make_vec"):
        make_envs(gymnasium.make("CartPole-v1"))
    with pytest.raises(EnvError, match="VectorEnv"):
        make_envs(object())  # type: ignore[arg-type]


# --- actions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("given", ["int64", "int32", "uint8", "torch", "torch int32", "list"])
def test_actions_arrive_as_the_env_wants_them(backend: str, given: str) -> None:
    """G4: the start of the space is added; dtype int64, numpy or torch like the observations."""
    script = Script(3, num_actions=4)
    envs = ScriptedVectorEnv(script, backend=backend, start=3)
    stream = make_envs(envs)
    assert (stream.num_actions, stream.action_start) == (4, 3)
    stream.reset()
    actions: Any = [0, 3, 1]
    if "torch" in given:
        actions = torch.tensor(actions, dtype=torch.int32 if "int32" in given else torch.int64)
    elif given != "list":
        actions = np.array(actions, given)
    stream.send(actions)
    if given != "list":
        actions[:] = 2  # the caller's buffer: the env must not see this
    stream.recv()
    assert envs.actions[-1].tolist() == [3, 6, 4]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(3), "float64"),
        (np.zeros(3, bool), "bool"),
        (torch.zeros(3), "float32"),
        (np.zeros((3, 1), np.int64), r"\(3, 1\)"),
        (np.zeros(2, np.int64), r"\(2,\)"),
        (np.int64(0), r"\(\)"),
        (np.array([0, -1, 0]), "env 1 is -1.*0 to 4"),
        (np.array([0, 0, 5]), "env 2 is 5"),
        (torch.tensor([5, 0, 0]), "env 0 is 5"),
    ],
)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_wrong_actions_are_refused(actions: Any, message: str, backend: str) -> None:
    """A1: ALE waits for ever after an action out of range, and Gymnasium takes some."""
    envs = ScriptedVectorEnv(FLOATS, backend=backend)
    stream = make_envs(envs)
    stream.reset()
    with pytest.raises(EnvError, match=message):
        stream.send(actions)
    stream.send(np.zeros(3, np.int64))  # nothing was sent
    stream.recv()
    assert len(envs.actions) == 1


def test_send_and_recv_must_alternate() -> None:
    """A2: recv without send is an endless wait in ALE."""
    stream = make_envs(ScriptedVectorEnv(FLOATS))
    with pytest.raises(EnvError, match="before reset"):
        stream.send(np.zeros(3, np.int64))
    stream.reset()
    with pytest.raises(EnvError, match="without send"):
        stream.recv()
    stream.send(np.zeros(3, np.int64))
    with pytest.raises(EnvError, match="twice"):
        stream.send(np.zeros(3, np.int64))
    stream.recv()
    stream.close()
    stream.close()
    for call in (stream.reset, stream.recv, lambda: stream.send(np.zeros(3, np.int64))):
        with pytest.raises(EnvError, match="closed"):
            call()


@pytest.mark.parametrize("make", [sync, forked, lambda s, m: ScriptedVectorEnv(s, m)])
def test_reset_in_mid_flight(make: Any) -> None:
    stream = make_envs(make(FLOATS, "NEXT_STEP"))
    stream.reset(seed=0)
    stream.send(np.zeros(3, np.int64))
    step = stream.reset(seed=0)
    assert (FLOATS.decode(step.observation)[:, 1:] == 0).all() and step.first.all()
    check_rows(collect(stream, FLOATS, 20), FLOATS)
    stream.close()


# --- seeds --------------------------------------------------------------------------------------


def test_the_seed_of_make_is_used_once_and_by_default() -> None:
    envs = ScriptedVectorEnv(FLOATS)
    stream = make_envs(envs, seed=11)
    assert envs.seeds == []  # making envs seeds nothing
    stream.reset()
    stream.reset()
    stream.reset(seed=np.int64(5))  # type: ignore[arg-type]
    assert envs.seeds == [11, None, 5]
    assert all(type(seed) is int for seed in envs.seeds if seed is not None)  # A4


@pytest.mark.parametrize("seed", [-1, 2**31, 1.5, "1", None])
def test_seeds_that_envs_could_not_take_are_refused(seed: Any) -> None:
    with pytest.raises(EnvError, match="seed"):
        make_envs(ScriptedVectorEnv(FLOATS), seed=seed)
    if seed is not None:
        with pytest.raises(EnvError, match="seed"):
            make_envs(ScriptedVectorEnv(FLOATS)).reset(seed=seed)


@pytest.mark.parametrize("vectorization", ["sync", "auto"])
def test_the_same_seed_gives_the_same_run(vectorization: str) -> None:
    def run(seed: int) -> list:
        stream = make_envs("CartPole-v1", 3, seed=seed, vectorization=vectorization)
        rows = [stream.reset().observation]
        for _ in range(60):
            stream.send(np.array([0, 1, 0]))
            rows.append(stream.recv().observation)
        return np.stack(rows).tolist()

    assert run(4) == run(4) != run(5)


# --- state --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("steps", [0, 1, 7, 20])
def test_a_loaded_stream_goes_on_without_a_reset(mode: str, backend: str, steps: int) -> None:
    def act(step: Any) -> Any:
        newest = host(step.observation).copy()
        if step.reset is not None:
            newest[host(step.reset)] = host(step.reset_observation)[host(step.reset)]
        return FLOATS.act(newest)

    old = make_envs(ScriptedVectorEnv(FLOATS, mode, backend=backend), seed=1)
    assert old.can_save_state  # type: ignore[attr-defined]
    step = old.reset()
    for _ in range(steps):
        old.send(act(step))
        step = old.recv()
    new = make_envs(ScriptedVectorEnv(FLOATS, mode, backend=backend), seed=2)
    state = old.state_dict()  # type: ignore[attr-defined]
    state["ended"] = torch.as_tensor(state["ended"])  # as a checkpoint does
    state["envs"] = {key: torch.as_tensor(value) for key, value in state["envs"].items()}
    new.load_state_dict(state)  # type: ignore[attr-defined]
    for _ in range(20):
        actions = act(step)
        old.send(actions)
        new.send(actions)
        step = old.recv()
        for a, b in zip(step, new.recv(), strict=True):
            assert type(a) is type(b)
            np.testing.assert_array_equal(host(a), host(b))


def test_state_is_refused_where_it_cannot_be_had() -> None:
    stream: Any = make_envs(ScriptedVectorEnv(FLOATS))
    with pytest.raises(EnvError, match="after reset"):
        stream.state_dict()
    stream.reset()
    stream.send(np.zeros(3, np.int64))
    with pytest.raises(EnvError, match="before send"):
        stream.state_dict()
    cartpole: Any = make_envs("CartPole-v1")
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(ScriptedVectorEnv(FLOATS))
    assert not make_envs(wrapped).can_save_state  # type: ignore[attr-defined]  # its own is lost
    assert not cartpole.can_save_state
    for call in (cartpole.state_dict, lambda: cartpole.load_state_dict({})):
        with pytest.raises(EnvError, match=r"state_dict\(\)"):
            call()


# --- workers ------------------------------------------------------------------------------------


class Misbehaving(ScriptedEnv):
    """Sleeps or raises in the third step of env 1."""

    what = ""
    calls = 0

    def step(self, action: Any) -> Any:
        self.calls += 1
        if self.index == 1 and self.calls == 3:
            if self.what == "raise":
                raise RuntimeError("the env is broken")
            time.sleep(60)
        return super().step(action)


class Sleeping(Misbehaving):
    what = "sleep"


class Raising(Misbehaving):
    what = "raise"


def fork(cls: type) -> AsyncVectorEnv:
    return AsyncVectorEnv([partial(cls, FLOATS, i) for i in range(3)], context="fork")


def run_until_error(stream: EnvStream, error: Any, message: str) -> None:
    stream.reset(seed=0)
    with pytest.raises(error, match=message):
        for _ in range(5):
            stream.send(np.zeros(3, np.int64))
            stream.recv()


def check_closes(stream: Any) -> None:
    started = time.monotonic()
    stream.close()
    stream.close()
    assert time.monotonic() - started < 5
    assert not any(process.is_alive() for process in stream._base.processes)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Gymnasium's way to print the traceback
def test_an_error_in_a_worker_is_raised_here() -> None:
    stream = make_envs(fork(Raising))
    run_until_error(stream, EnvFailure, "Env 1 of .* failed in a step .*the env is broken")
    check_closes(stream)


def test_a_worker_that_hangs_is_reported() -> None:
    stream = GymnasiumStream(fork(Sleeping), step_timeout_s=0.3)
    run_until_error(stream, EnvFailure, "Env 1 of .* gave no answer to a step within 0.3 s")
    check_closes(stream)


def test_closing_does_not_wait_for_a_worker_that_hangs() -> None:
    stream = make_envs(fork(Sleeping))
    stream.reset()
    for _ in range(2):
        stream.send(np.zeros(3, np.int64))
        stream.recv()
    stream.send(np.zeros(3, np.int64))
    check_closes(stream)


@pytest.mark.parametrize("in_flight", [True, False])
def test_a_killed_worker_neither_hangs_nor_breaks_close(in_flight: bool) -> None:
    """G6: broken pipes on step and once more on close."""
    envs = fork(ScriptedEnv)
    stream = make_envs(envs)
    stream.reset(seed=0)
    if in_flight:
        stream.send(np.zeros(3, np.int64))
    os.kill(envs.processes[1].pid, signal.SIGKILL)
    envs.processes[1].join()
    with pytest.raises(EnvFailure, match=r"worker process of env 1 .* was killed by SIGKILL"):
        if not in_flight:
            stream.send(np.zeros(3, np.int64))
        stream.recv()
        stream.send(np.zeros(3, np.int64))
        stream.recv()
    check_closes(stream)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_reset_on_a_pending_autoreset(shared_memory: bool) -> None:
    """G6: without shared memory a worker's autoreset survives reset(): one more ``first`` row."""
    stream = make_envs(forked(FLOATS, "NEXT_STEP", shared_memory=shared_memory))
    stream.reset(seed=0)
    for _ in range(FLOATS.max_length):
        stream.send(np.zeros(3, np.int64))
        step = stream.recv()
        pending = step.terminated | step.truncated
        if pending.any():
            break
    before = stream.reset()
    stream.send(np.zeros(3, np.int64))
    step = stream.recv()
    _, episode, t = FLOATS.decode(step.observation).T
    assert (step.first == (pending & (not shared_memory))).all()
    assert (t == ~step.first).all()
    assert (episode == FLOATS.decode(before.observation)[:, 1] + step.first).all()
    stream.close()


def test_a_script_without_a_main_guard_is_told(tmp_path: Any) -> None:
    (tmp_path / "script.py").write_text(
        "from fastdqn.envs import make_envs\nmake_envs('CartPole-v1', 1, vectorization='async')\n"
    )
    path = os.pathsep.join(sys.path)
    run = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "__main__" in run.stderr.strip().splitlines()[-1], run.stderr


def test_async_envs_by_id() -> None:
    stream: Any = make_envs("CartPole-v1", 2, seed=3, vectorization="async")
    assert stream._envs.context in ("forkserver", "spawn")  # A18: not fork
    reference = make_envs("CartPole-v1", 2, seed=3, vectorization="sync")
    np.testing.assert_array_equal(stream.reset().observation, reference.reset().observation)
    for _ in range(5):
        for s in (stream, reference):
            s.send(np.array([0, 1]))
        np.testing.assert_array_equal(stream.recv().observation, reference.recv().observation)
    check_closes(stream)


# --- make_envs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPol-v1", "did you mean 'CartPole-v1'"),
        ("CartPole-v7", "did you mean 'CartPole-v1'"),
        ("", "no env"),
        ("no_such_module:Env-v0", "no_such_module"),
        ("Pendulum-v1", "discretise"),
    ],
)
def test_ids_that_do_not_work_are_refused(env_id: str, message: str) -> None:
    with pytest.raises(EnvError, match=message):
        make_envs(env_id, 2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_envs": 2.0}, "num_envs"),
        ({"vectorization": "synk"}, "did you mean 'sync'"),
        ({"vectorization": "vector_entry_point", "env": "MountainCar-v0"}, "vector entry point"),
        ({"no_such_option": 1}, "no_such_option"),
        ({"device": "cuda"}, "device"),
        ({"num_threads": 2}, "ALE/"),
        ({"frame_stack": 0}, "frame_stack"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(EnvError, match=message) as error:
        make_envs(**{"env": "CartPole-v1", **kwargs})
    assert "\n" not in str(error.value)


def test_a_vector_env_takes_no_arguments_of_making() -> None:
    with pytest.raises(EnvError, match="has 3"):
        make_envs(ScriptedVectorEnv(FLOATS), 4)
    with pytest.raises(EnvError, match="made already"):
        make_envs(ScriptedVectorEnv(FLOATS), render_mode="human")
    assert make_envs(ScriptedVectorEnv(FLOATS), 3, frame_stack=2).frame_stack == 2


def test_arguments_reach_the_env() -> None:
    stream: Any = make_envs(
        "CartPole-v1",
        2,
        vectorization="sync",
        max_episode_steps=3,
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    assert stream.autoreset_mode is AutoresetMode.SAME_STEP
    stream.reset()
    for _ in range(3):
        stream.send(np.array([0, 1]))
        step = stream.recv()
    assert step.truncated.all() and step.reset.all()


# --- CPUs ---------------------------------------------------------------------------------------
