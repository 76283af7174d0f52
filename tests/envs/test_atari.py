"""ALE's traps, and parity with Gymnasium's AtariPreprocessing, frame by frame."""

from __future__ import annotations

import inspect
import os
import sys
from collections import deque
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ale_py")

import ale_py
import gymnasium
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from fastdqn.config.atari_ids import atari_meaning
from fastdqn.config.env_ids import check_env_id
from fastdqn.envs import AtariProtocol, make_envs
from fastdqn.envs.atari import AtariStream
from fastdqn.errors import EnvError


@pytest.fixture(autouse=True)
def _clean_metadata() -> Any:
    """Raw AtariVectorEnvs write into the metadata of all VectorEnvs."""
    before = dict(VectorEnv.metadata)
    yield
    VectorEnv.metadata.clear()
    VectorEnv.metadata.update(before)


def make(game: str = "Breakout", num_envs: int = 2, protocol: Any = None, **kwargs: Any) -> Any:
    kwargs.setdefault("seed", 0)
    return make_envs(f"ALE/{game}-v5", num_envs, atari=protocol, num_threads=2, **kwargs)


def raw(game: str = "breakout", num_envs: int = 2, **kwargs: Any) -> AtariVectorEnv:
    """An AtariVectorEnv as fastdqn makes it, unless told otherwise."""
    ours = {"stack_num": 1, "reward_clipping": False, "num_threads": 2, "use_fire_reset": False}
    return AtariVectorEnv(game, num_envs, **{**ours, **kwargs})


def run(stream: Any, steps: int, *, seed: int | None = None, action_seed: int = 0) -> list:
    generator = np.random.default_rng(action_seed)
    rows = [stream.reset(seed=seed)]
    for _ in range(steps):
        stream.send(generator.integers(0, stream.num_actions, stream.num_envs))
        rows.append(stream.recv())
    return rows


# --- parity ---


def single(game: str, sticky: float, ale_seed: int, size: int = 84) -> gymnasium.Env:
    """The reference: Gymnasium's wrappers around one env, with the emulator seeded as ours is."""
    env = gymnasium.make(
        f"ALE/{game}-v5",
        frameskip=1,
        repeat_action_probability=sticky,
        disable_env_checker=True,
    )
    env.unwrapped.ale.setInt("random_seed", ale_seed)
    env.unwrapped.load_game()
    env = AtariPreprocessing(env, noop_max=0, screen_size=size, terminal_on_life_loss=False)
    return FrameStackObservation(env, 4, padding_type="zero")


def check_parity(game: str, sticky: float, episodes: int, seed: int = 11, size: int = 84) -> None:
    """Frames, stacks, raw rewards and flags of whole episodes, in two envs side by side."""
    protocol = AtariProtocol.machado(repeat_action_probability=sticky, noop_max=0, frame_size=size)
    stream = make(game, 2, protocol)
    references = [single(game, sticky, seed + i, size) for i in range(2)]
    stacks: list[deque] = [deque(maxlen=4) for _ in range(2)]
    over, rewards = np.zeros(2, int), 0.0
    generator = np.random.default_rng(seed)
    step = stream.reset(seed=seed)
    while over.min() < episodes:
        for i, reference in enumerate(references):
            if step.first[i]:
                stacks[i].extend([np.zeros((size, size), np.uint8)] * 4)
                expected, _ = reference.reset()
                scalars = (0.0, False, False)
            else:
                expected, *scalars, _ = reference.step(actions[i])  # noqa: F821
            stacks[i].append(step.observation[i])
            assert np.array_equal(np.stack(stacks[i]), expected)
            assert (step.reward[i], step.terminated[i], step.truncated[i]) == tuple(scalars)
            over[i] += step.terminated[i] or step.truncated[i]
            rewards += abs(step.reward[i])
        actions = generator.integers(0, stream.num_actions, 2)
        stream.send(actions)
        step = stream.recv()
    assert rewards > 0
    stream.close()


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_parity_with_atari_preprocessing(sticky: float) -> None:
    check_parity("Breakout", sticky, episodes=3)


def test_parity_without_lives_on_small_frames() -> None:
    check_parity("Pong", 0.25, episodes=1, size=52)


@pytest.mark.slow
@pytest.mark.parametrize("game", ["Pong", "Boxing", "SpaceInvaders", "MsPacman", "Seaquest"])
@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_parity_of_more_games(game: str, sticky: float) -> None:
    check_parity(game, sticky, episodes=3)


# --- episodes and lives ---


def test_a_lost_life_is_terminal_without_a_reset() -> None:
    """A life-loss row is one where ``lives`` falls and stays above 0; the game goes on."""
    protocol = AtariProtocol.classic()
    stream = make("Breakout", 4, protocol)
    twin = raw("breakout", 4, use_fire_reset=True, life_loss_info=False)
    rows = run(stream, 500, seed=2)
    generator = np.random.default_rng(0)
    _, info = twin.reset(seed=2)
    lives, over = info["lives"], np.zeros(4, bool)
    lost = games = 0
    for row in rows[1:]:
        frames, reward, terminated, truncated, info = twin.step(generator.integers(0, 4, 4))
        np.testing.assert_array_equal(row.observation, frames[:, 0])
        np.testing.assert_array_equal(row.reward, reward)
        np.testing.assert_array_equal(row.first, over)
        fell = (info["lives"] < lives) & (info["lives"] > 0) & ~over
        np.testing.assert_array_equal(row.terminated, terminated | fell)
        np.testing.assert_array_equal(row.truncated, truncated)
        lost, games = lost + fell.sum(), games + over.sum()
        lives, over = info["lives"], terminated | truncated
    assert games >= 4 and lost >= 3 * games
    stream.close()


@pytest.mark.parametrize("game", ["Breakout", "Pong", "Seaquest", "SpaceInvaders"])
def test_first_is_the_rule_by_flags_and_counters(game: str) -> None:
    """A16: a reset follows a truncation, a termination without lives, or a counter that falls."""
    protocol = AtariProtocol.classic(max_episode_frames=402)
    stream = make(game, 4, protocol)
    rows = run(stream, 220, seed=3)
    name = gymnasium.spec(f"ALE/{game}-v5").kwargs["game"]
    twin = raw(name, 4, use_fire_reset=True, life_loss_info=True, max_num_frames_per_episode=402)
    generator = np.random.default_rng(0)
    _, info = twin.reset(seed=3)
    over, frame = np.zeros(4, bool), info["episode_frame_number"]
    for row in rows[1:]:
        *_, terminated, truncated, info = twin.step(generator.integers(0, stream.num_actions, 4))
        fell = info["episode_frame_number"] < frame
        np.testing.assert_array_equal(row.first, over | fell)
        assert not row.reward[row.first].any() and not row.terminated[row.first].any()
        over, frame = truncated | (terminated & (info["lives"] == 0)), info["episode_frame_number"]
    assert sum(row.first.sum() for row in rows[1:]) >= 4
    stream.close()


def test_a_life_lost_on_the_last_frame_is_a_reset_without_a_flag() -> None:
    """The frame limit is not reported where a life is lost in the same step, yet ALE resets."""
    free = make(protocol=AtariProtocol.classic(noop_max=0))
    rows = run(free, 400, seed=4)
    t = next(t for t, row in enumerate(rows) if row.terminated[0])
    assert not rows[t + 1].first[0]
    capped = make(protocol=AtariProtocol.classic(noop_max=0, max_episode_frames=4 * t))
    rows = run(capped, t + 1, seed=4)
    assert rows[t].terminated[0] and not rows[t].truncated[0]
    assert rows[t + 1].first[0] and rows[t + 1].reward[0] == 0
    # A short episode with many no-ops after it: the frame counter of the episode does not fall.
    short = make(protocol=AtariProtocol.classic(noop_max=30, max_episode_frames=4))
    assert [row.first.all() for row in run(short, 9)] == [True, False] * 5


@pytest.mark.parametrize(("cap", "steps"), [(400, 100), (401, 101), (403, 101)])
def test_the_limit_counts_frames_without_the_no_ops(cap: int, steps: int) -> None:
    """A10; the emulator plays at most ``cap`` frames, so the last step may be a short one."""
    protocol = AtariProtocol.machado(max_episode_frames=cap)
    stream = make("Freeway", 2, protocol)
    rows = run(stream, steps + 1)
    assert [t for t, row in enumerate(rows) if row.truncated.any()] == [steps]
    assert rows[steps].truncated.all() and not rows[steps].terminated.any()
    assert rows[steps + 1].first.all()
    stream.close()


def test_the_final_frame_is_stale() -> None:
    """A9: known and accepted; a limit that is cut within a step shows the frame before it."""
    stream = make("Freeway", 2, AtariProtocol.machado(max_episode_frames=401))
    rows = run(stream, 101)
    assert rows[101].truncated.all()
    np.testing.assert_array_equal(rows[101].observation, rows[100].observation)


# --- the envs of others ---


def by_episode(stream: Any, steps: int) -> list[list]:
    """Rows of each env, with actions that depend on env, episode and time only."""
    rows: list[list] = [[] for _ in range(stream.num_envs)]
    where = np.zeros((stream.num_envs, 2), int)  # episode, t

    def add(step: Any) -> None:
        for i in range(stream.num_envs):
            where[i] = (where[i, 0] + 1, 0) if step.first[i] else (where[i, 0], where[i, 1] + 1)
            scalars = step.reward[i], step.terminated[i], step.truncated[i], step.first[i]
            rows[i].append((*(x.item() for x in scalars), step.observation[i].tobytes()))
            if step.reset is not None and step.reset[i]:
                where[i] = where[i, 0] + 1, 0
                rows[i].append((0.0, False, False, True, step.reset_observation[i].tobytes()))

    add(stream.reset(seed=5))
    for _ in range(steps):
        i = np.arange(stream.num_envs)
        stream.send((i * 7 + where[:, 0] * 5 + where[:, 1] * where[:, 1] // 3) % 4)
        add(stream.recv())
    return rows


@pytest.mark.parametrize("life_loss_info", [False, True])
@pytest.mark.parametrize("stack_num", [1, 4])
def test_same_step_gives_the_rows_of_next_step(life_loss_info: bool, stack_num: int) -> None:
    """A11: ``final_obs`` is junk where a life, but no episode, ended."""
    options = {
        "life_loss_info": life_loss_info,
        "stack_num": stack_num,
        "repeat_action_probability": 0.25,
        "max_num_frames_per_episode": 1200,
    }
    found = []
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        stream = make_envs(raw(autoreset_mode=mode, **options))
        assert isinstance(stream, AtariStream) and stream.autoreset_mode is mode
        found.append(by_episode(stream, 700))
        stream.close()
    for next_step, same_step in zip(*found, strict=True):
        n = min(len(next_step), len(same_step))
        assert next_step[:n] == same_step[:n]
        firsts = sum(row[3] for row in next_step)
        assert firsts >= 3
        assert (sum(row[1] for row in next_step) > firsts) == life_loss_info


def test_wrapped_envs_step_through_their_wrapper() -> None:
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(raw(repeat_action_probability=0.25))
    ours = run(make(), 60, seed=1)
    for a, b in zip(ours, run(make_envs(wrapped, frame_stack=4), 60, seed=1), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True) if x is not None)
    assert wrapped.episode_lengths.sum() > 0


def test_envs_that_stack_keep_their_stacks() -> None:
    stream = make_envs(raw(stack_num=4))
    assert stream.observation_space.shape == (4, 84, 84) and stream.frame_stack is None
    assert stream.reset().observation.shape == (2, 4, 84, 84)


def test_envs_that_answer_in_part_are_refused() -> None:
    """A13: with batch_size < num_envs the rows of a step come from other envs each time."""
    with pytest.raises(EnvError, match="batch_size"):
        make_envs(raw(num_envs=4, batch_size=2))


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(EnvError, match="discretise"):
        make_envs(raw(continuous=True))


def test_building_envs_changes_no_mode_of_others() -> None:
    """A17: ale-py writes its mode into the metadata that all VectorEnvs share."""
    before = dict(VectorEnv.metadata)
    first = make()
    assert VectorEnv.metadata == before
    envs = raw()
    raw(autoreset_mode=AutoresetMode.SAME_STEP)  # flips the metadata of all
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert make_envs(envs).autoreset_mode is AutoresetMode.NEXT_STEP  # type: ignore[attr-defined]
    assert first.autoreset_mode is make().autoreset_mode is AutoresetMode.NEXT_STEP


# --- actions, seeds, threads ---


def test_what_would_hang_ale_is_refused() -> None:
    """A1 and A2: an action out of range, recv without send, send twice."""
    stream = make()
    stream.reset()
    for actions in (np.array([0, 4]), np.array([-1, 0])):
        with pytest.raises(EnvError, match="0 to 3"):
            stream.send(actions)
    with pytest.raises(EnvError, match="without send"):
        stream.recv()
    stream.send(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match="twice"):
        stream.send(np.zeros(2, np.int64))
    stream.recv()


def test_a_reset_in_mid_flight_does_not_hang() -> None:
    stream = make()
    run(stream, 3)
    stream.send(np.zeros(2, np.int64))
    assert stream.reset().first.all()
    stream.send(np.zeros(2, np.int64))
    assert not stream.recv().first.any()
    stream.send(np.zeros(2, np.int64))
    stream.close()


@pytest.mark.parametrize("actions", [[1, 2], np.array([1, 2], np.uint8), np.array([1, 2], "int32")])
def test_integers_of_any_kind_will_do(actions: Any) -> None:
    """A3: ALE itself asserts int32 or int64."""
    stream = make()
    stream.reset()
    stream.send(actions)
    stream.recv()


def test_seeds() -> None:
    """A4: env i gets seed + i, of any integer type; sticky actions are seeded, too."""

    def frames(rows: list, env: int) -> bytes:
        return b"".join(row.observation[env].tobytes() for row in rows)

    def noops(seed: Any) -> list:
        stream = make(seed=3)
        rows = [stream.reset(seed=seed)]
        for _ in range(40):
            stream.send(np.array([2, 2]))
            rows.append(stream.recv())
        return rows

    five, six = noops(5), noops(np.int64(6))
    assert frames(five, 1) == frames(six, 0) != frames(six, 1)
    assert frames(noops(5), 0) == frames(five, 0)
    assert frames(noops(None), 0) == frames(noops(3), 0)  # the seed of make_envs
    with pytest.raises(EnvError, match="out of range"):
        make().reset(seed=2**31 - 2)


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets the affinity")
def test_threads_obey_the_affinity_and_end_with_close() -> None:
    """A19: ALE's own default counts the CPUs of the machine."""
    mask, before = os.sched_getaffinity(0), threads()
    try:
        os.sched_setaffinity(0, {min(mask)})
        stream = make_envs("ALE/Breakout-v5", 4)
    finally:
        os.sched_setaffinity(0, mask)
    assert threads() == before + 1
    stream.reset()
    stream.send(np.zeros(4, np.int64))
    stream.close()
    stream.close()
    assert threads() == before
    with pytest.raises(EnvError, match="closed"):
        stream.recv()


# --- making ---


def test_rows_as_the_replay_wants_them() -> None:
    """A8 and A14: one frame per row, raw rewards, zero padding."""
    stream = make("MsPacman", 3)
    assert (stream.num_envs, stream.num_actions, stream.action_start) == (3, 9, 0)
    assert (stream.frame_stack, stream.stack_padding) == (4, "zero")
    assert stream.observation_space.shape == (84, 84)
    assert stream.observation_space.dtype == np.uint8
    rows = run(stream, 150)
    for step in rows:
        assert step.observation.shape == (3, 84, 84) and step.observation.dtype == np.uint8
        assert step.observation.flags.c_contiguous
        assert step.reward.dtype == np.float32 and step.terminated.dtype == bool
        assert step.reset is None and step.reset_observation is None
    assert max(step.reward.max() for step in rows) >= 10  # not clipped
    # Rows stay what they were when later ones arrive.
    again = run(stream, 60, seed=1)
    copies = [step.observation.copy() for step in rows]
    assert all(np.array_equal(a, step.observation) for a, step in zip(copies, rows, strict=True))
    assert not np.array_equal(again[5].observation, again[40].observation)


def test_every_argument_of_ale_is_stated(monkeypatch: Any) -> None:
    """A5: the defaults of the class and of the Gymnasium ids differ, and may change."""
    given: dict[str, Any] = {}
    original = AtariVectorEnv.__init__

    def spy(self: Any, *args: Any, **kwargs: Any) -> None:
        given.update(kwargs)
        original(self, *args, **kwargs)

    monkeypatch.setattr(AtariVectorEnv, "__init__", spy)
    make(protocol=AtariProtocol.classic())
    wanted = {
        name
        for name, parameter in inspect.signature(original).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert set(given) == wanted - {"continuous_action_threshold"}  # nothing without continuous
    assert given["life_loss_info"] and given["use_fire_reset"] and not given["reward_clipping"]
    assert given["repeat_action_probability"] == 0.0
    make(protocol=AtariProtocol.machado())
    assert not given["life_loss_info"] and not given["use_fire_reset"]
    assert given["repeat_action_probability"] == 0.25
    make()  # machado is the default
    assert given["repeat_action_probability"] == 0.25


def test_protocols() -> None:
    classic = AtariProtocol.classic(noop_max=7, name="mine")
    assert (classic.life_loss, classic.fire_reset, classic.noop_max) == (True, True, 7)
    assert classic.name == "mine" and AtariProtocol.machado().name == "machado"
    assert make(protocol=AtariProtocol.machado(full_action_space=True)).num_actions == 18
    for field, value in {
        "repeat_action_probability": 1.5,
        "noop_max": -1,
        "frame_skip": 0,
        "frame_size": 7,
        "max_episode_frames": 0,
    }.items():
        with pytest.raises(EnvError, match=field):
            AtariProtocol.machado(**{field: value})
    with pytest.raises(EnvError, match="nan"):
        AtariProtocol(repeat_action_probability=float("nan"))


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("ALE/Breakot-v5", "did you mean 'ALE/Breakout-v5'"),
        ("ALE/Breakout-v4", "did you mean 'ALE/Breakout-v5'"),
        ("Breakout-v5", "did you mean 'ALE/Breakout-v5'"),
        ("pong", "did you mean 'ALE/Pong-v5'"),
        ("Pong", "did you mean 'ALE/Pong-v5'"),
        ("ms_pacman", "did you mean 'ALE/MsPacman-v5'"),
        ("BreakotNoFrameskip-v4", "did you mean 'BreakoutNoFrameskip-v4'"),
        ("Pong-v4", "'ALE/Pong-v5' .* or 'PongNoFrameskip-v4' for no sticky ones"),
        ("Pong-v0", "skips 2 to 5 frames at random"),
        ("ale_py:Pong-v4", "'ALE/Pong-v5'"),
        ("Pong-ram-v4", "obs_type.* or 'Pong-ramNoFrameskip-v4'"),
    ],
)
def test_ids_that_do_not_work_are_refused(env_id: str, message: str) -> None:
    """A6: Gymnasium would make slow envs of raw screens of the old ids, in silence."""
    assert ale_py is not None
    with pytest.raises(EnvError, match=message):
        make_envs(env_id, 2)


@pytest.mark.parametrize(
    ("env_id", "ours", "sticky"),
    [
        ("BreakoutNoFrameskip-v4", "ALE/Breakout-v5", 0.0),
        ("ALE/BreakoutNoFrameskip-v4", "ALE/Breakout-v5", 0.0),
        ("ale_py:BreakoutNoFrameskip-v0", "ALE/Breakout-v5", 0.25),
        ("breakoutDeterministic-v4", "ALE/Breakout-v5", 0.0),
        ("ALE/Breakout", "ALE/Breakout-v5", 0.25),
        ("ale_py:ALE/Breakout-v5", "ALE/Breakout-v5", 0.25),
    ],
)
def test_old_ids_are_played_on_ale(env_id: str, ours: str, sticky: float) -> None:
    with pytest.warns(UserWarning, match=f"env_id = {env_id!r} is played as {ours}") as said:
        found = run(make_envs(env_id, 2, seed=3, num_threads=1), 12)
    assert len(said) == 1 and ("no sticky" in str(said[0].message)) == (sticky == 0)
    rules = AtariProtocol.machado(repeat_action_probability=sticky)
    for a, b in zip(found, run(make("Breakout", 2, rules, seed=3), 12), strict=True):
        np.testing.assert_array_equal(a.observation, b.observation)


def test_a_protocol_of_the_callers_own_wins_over_the_id() -> None:
    with pytest.warns(UserWarning, match="frame skip 2 and sticky actions 0.5; lost lives are"):
        rules = AtariProtocol.classic(frame_skip=2, repeat_action_probability=0.5)
        make_envs("PongNoFrameskip-v4", 1, atari=rules).close()


def test_an_id_of_somebody_elses_is_left_alone(monkeypatch: Any) -> None:
    for name in ("PongNoFrameskip-v4", "Pong-v4", "GridDeterministic-v0"):
        spec = gymnasium.spec("CartPole-v1")
        monkeypatch.setitem(gymnasium.registry, name, spec)
        assert atari_meaning(name) is None
        check_env_id(name)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"render_mode": "human"}, "render_mode does not apply"),
        ({"vectorization": "sync"}, "vectorization = 'sync' does not apply"),
        ({"device": "cuda"}, "device does not apply"),
        ({"num_threads": 0}, "num_threads"),
        ({"frame_stack": 0}, "frame_stack"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(EnvError, match=message):
        make_envs("ALE/Pong-v5", 2, **kwargs)


def test_an_atari_protocol_for_another_env_is_refused() -> None:
    with pytest.raises(EnvError, match="atari applies"):
        make_envs("CartPole-v1", atari=AtariProtocol())


def test_without_ale_py_the_fix_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ale_py.vector_env", None)
    with pytest.raises(EnvError, match=r"pip install 'fastdqn\[atari\]'"):
        make_envs("ALE/Breakout-v5")


def test_state_cannot_be_saved() -> None:
    """A15: no clone_state in the vector env."""
    stream = make()
    stream.reset()
    assert stream.can_save_state is False
    with pytest.raises(EnvError, match="cannot save its state"):
        stream.state_dict()
