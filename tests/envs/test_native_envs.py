"""What all native envs share: rows, seeds, state, shapes, and no look at the host."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from helpers.capture_laws import CaptureLaws

from fastdqn import Config, train
from fastdqn.checkpoints.store import find_checkpoint, load_checkpoint
from fastdqn.envs import make_envs
from fastdqn.envs.gymnasium import GymnasiumStream
from fastdqn.envs.native.cartpole import CartPole
from fastdqn.envs.native.stream import NativeStream
from fastdqn.errors import EnvError, FastDQNError
from fastdqn.types import TimeStep

CASES = {
    "cartpole": ("fastdqn/CartPole-v1", {}),
    "cartpole, every option": (
        "fastdqn/CartPole-v1",
        {
            "observation_noise": 0.05,
            "action_noise": 0.1,
            "target_position": (-1.0, 1.5),
            "fall_reward": -10.0,
            "max_episode_steps": 15,
        },
    ),
    "cartpole, rgb": ("fastdqn/CartPole-v1", {"pixels": True, "max_episode_steps": 15}),
    "cartpole, gray": ("fastdqn/CartPole-v1", {"pixels": True, "gray": True}),
    "cartpole, difference": ("fastdqn/CartPole-v1", {"pixels": True, "difference": True}),
    "catch": ("fastdqn/Catch-v0", {"balls": 2}),
    "catch, small": ("fastdqn/Catch-v0", {"size": 36, "balls": 2, "max_episode_steps": 17}),
    "breakout": ("fastdqn/Breakout-v0", {"lives": 2}),
    "breakout, small": ("fastdqn/Breakout-v0", {"size": 42, "lives": 1, "max_episode_steps": 20}),
}
every_case = pytest.mark.parametrize("case", CASES)


def make(case: str, num_envs: int = 5, **more) -> VectorEnv:
    env_id, options = CASES[case]
    mode = "vector_entry_point"
    return gymnasium.make_vec(env_id, num_envs, vectorization_mode=mode, **options, **more)


def actions_for(envs, steps: int, seed: int = 0) -> torch.Tensor:
    n = int(envs.single_action_space.n)
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, n, (steps, envs.num_envs), generator=g)


def play(envs, actions) -> list[torch.Tensor]:
    """Everything that comes out of stepping."""
    return [x for action in actions for x in envs.step(action)[:4]]


def same(one, other) -> bool:
    return all(map(torch.equal, one, other)) and len(one) == len(other)


@every_case
def test_arrays_are_what_the_spaces_say(case):
    envs = make(case)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.observation_space.shape == (5, *envs.single_observation_space.shape)
    observation, info = envs.reset(seed=3)
    assert envs.observation_space.contains(observation.numpy()) and isinstance(info, dict)
    for action in actions_for(envs, 120):
        observation, reward, terminated, truncated, info = envs.step(action)
        assert envs.observation_space.contains(observation.numpy())
        assert observation.is_contiguous()
        assert (reward.dtype, reward.shape) == (torch.float32, (5,))
        for flags in (terminated, truncated):
            assert (flags.dtype, flags.shape) == (torch.bool, (5,))


@every_case
def test_a_step_leaves_earlier_observations_alone(case):
    envs = make(case)
    before, _ = envs.reset(seed=3)
    kept = before.clone()
    for action in actions_for(envs, 5):
        after, *_ = envs.step(action)
        assert torch.equal(before, kept)
        before, kept = after, after.clone()


@every_case
def test_rows_of_the_stream(case):
    """A row that ends an episode is followed by one that is first; nothing leaves torch."""
    env_id, options = CASES[case]
    stream = make_envs(env_id, 5, seed=1, **options)
    step = stream.reset()
    assert bool(step.first.all()) and not bool((step.terminated | step.truncated).any())
    ended = torch.zeros(5, dtype=torch.bool)
    ends = truncations = 0
    for action in actions_for(stream._envs, 200):
        stream.send(action)
        step = stream.recv()
        assert isinstance(step, TimeStep) and step.reset is None
        assert all(isinstance(x, torch.Tensor) for x in step[:5])
        assert torch.equal(step.first, ended)
        assert not bool(step.reward[step.first].any())
        ended = step.terminated | step.truncated
        assert not bool((ended & step.first).any())
        ends, truncations = ends + int(ended.sum()), truncations + int(step.truncated.sum())
    assert ends > 5
    assert (truncations > 0) == ("max_episode_steps" in options)


@every_case
def test_the_stream_s_rows_are_those_that_any_envs_get(case):
    """What is left out for envs of our own changes nothing, a saved state included."""
    stack = {"frame_stack": 1}  # images [H, W] are delivered as they are
    ours = make_envs(make(case), seed=4, **stack)
    general = GymnasiumStream(make(case), seed=4, **stack)
    assert type(ours) is NativeStream
    steps = [(ours.reset(), general.reset())]
    for turn, action in enumerate(actions_for(ours._envs, 150)):
        if turn == 70:
            state = ours.state_dict()
            assert_same(state["envs"], general.state_dict()["envs"])
            ours = NativeStream(make(case), **stack)
            general = GymnasiumStream(make(case), **stack)
            ours.load_state_dict(state)
            general.load_state_dict(state)
        if turn == 40:
            steps.append((ours.reset(), general.reset()))
        for stream in (ours, general):
            stream.send(action)
        steps.append((ours.recv(), general.recv()))
    for mine, theirs in steps:
        assert same(mine[:5], theirs[:5]) and mine.reset is theirs.reset is None
        assert [x.dtype for x in mine[:5]] == [x.dtype for x in theirs[:5]]
    assert sum(int(step.first.sum()) for step, _ in steps) > 10 + 3


def test_the_stream_checks_actions_and_keeps_its_own():
    stream, other = make_envs(make("cartpole"), seed=4), make_envs(make("cartpole"), seed=4)
    stream.reset()
    other.reset()
    for wrong, words in (
        (torch.tensor([0, 1, 0, 2, 0]), "env 3 is 2; actions go from 0 to 1"),
        (torch.tensor([0, -1, 0, 1, 0]), "env 1 is -1"),
        (np.array([0, 1, 2, 0, 0]), "env 2 is 2"),
        (torch.zeros(5), "dtype torch.float32|dtype float32"),
        (torch.zeros(6, dtype=torch.int64), "shape"),
    ):
        with pytest.raises(EnvError, match=words):
            stream.send(wrong)
    for given in (torch.ones(5, dtype=torch.int64), np.ones(5, np.int64)):
        stream.send(given)
        given[:] = 0  # before the envs step
        other.send(torch.ones(5, dtype=torch.int64))
        assert same(stream.recv()[:5], other.recv()[:5])


def test_a_wrapper_of_native_envs_is_no_native_env():
    envs = gymnasium.wrappers.vector.TransformReward(make("catch"), lambda reward: 2 * reward)
    stream = make_envs(envs)
    assert type(stream) is GymnasiumStream


@pytest.mark.parametrize("cap", [1, 2, 7])
def test_truncation_after_exactly_so_many_steps(cap):
    envs = gymnasium.make_vec("fastdqn/CartPole-v1", 3, max_episode_steps=cap)
    envs.reset(seed=0)
    for t in range(1, 4 * (cap + 1)):
        *_, terminated, truncated, _ = envs.step(np.zeros(3, np.int64))
        assert not terminated.any()
        # cap steps, then the step of the reset.
        assert truncated.tolist() == [t % (cap + 1) == cap] * 3


@every_case
def test_seeds_repeat(case):
    def run(seed):
        envs = make(case)
        first, _ = envs.reset(seed=seed)
        return [first, *play(envs, actions_for(envs, 60))]

    assert same(run(7), run(7))
    assert not same(run(7), run(8))
    envs = make(case)
    before = play_from_reset(envs, 7)
    play(envs, actions_for(envs, 11))
    assert same(before, play_from_reset(envs, 7)), "a seeded reset in mid-episode"
    assert not same(before, play_from_reset(envs, None)), "a reset without a seed goes on"


def play_from_reset(envs, seed):
    first, _ = envs.reset(seed=seed)
    return [first, *play(envs, actions_for(envs, 30))]


def test_without_a_seed_no_two_envs_are_alike():
    first = [gymnasium.make_vec("fastdqn/CartPole-v1", 2).reset()[0] for _ in range(2)]
    assert not torch.equal(*first)


@every_case
def test_the_global_generator_is_left_alone(case):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    envs = make(case)
    envs.reset(seed=1)
    play(envs, actions_for(envs, 5))
    assert torch.equal(torch.get_rng_state(), before)


@every_case
def test_a_state_restored_goes_on_bit_for_bit(case):
    envs, other = make(case), make(case)
    envs.reset(seed=5)
    play(envs, actions_for(envs, 37))
    state = envs.state_dict()
    actions = actions_for(envs, 80, seed=1)
    expected = play(envs, actions)
    other.load_state_dict(state)
    assert same(play(other, actions), expected)
    envs.load_state_dict(state)  # the steps since have not touched what was saved
    assert same(play(envs, actions), expected)


def test_a_state_that_does_not_fit_is_refused():
    envs = make("catch")
    envs.reset(seed=0)
    state = envs.state_dict()
    with pytest.raises(EnvError, match="physics"):
        make("cartpole").load_state_dict(state)
    with pytest.raises(EnvError, match=r"\[5\]"):
        make("catch", 6).load_state_dict(state)
    for name, value in (("paddle", 12), ("row", -1), ("steps", 10**6)):
        forged = {**state["state"], name: torch.full((5,), value)}
        with pytest.raises(EnvError, match=f"{name} .* leaves"):
            envs.load_state_dict({**state, "state": forged})
    cartpole = make("cartpole")
    cartpole.reset(seed=0)
    state = cartpole.state_dict()
    state["state"]["physics"][2, 1] = float("nan")
    with pytest.raises(EnvError, match="physics"):
        cartpole.load_state_dict(state)
    # Refused, and nothing has changed.
    assert all(bool(x.isfinite().all()) for x in play(cartpole, actions_for(cartpole, 3)))


@every_case
def test_an_env_does_not_depend_on_its_neighbours(case):
    """The same random numbers give the same episodes, however many envs step beside."""
    num_envs = 100 if "pixels" in CASES[case][1] else 1000
    envs, alone = make(case, num_envs), make(case, 1)
    g = torch.Generator().manual_seed(0)
    env = num_envs // 3
    draw = torch.rand((80, envs._uniforms, num_envs), generator=g)
    state, own = envs.begin(draw[0]), alone.begin(draw[0, :, env : env + 1])
    lengths = []
    at = slice(env, env + 1)
    for uniform, action in zip(draw[1:], actions_for(envs, 79), strict=True):
        state, row = envs.transition(state, action, uniform)
        own, single = alone.transition(own, action[at], uniform[:, at])
        lengths.append(int(own["steps"]))
        # A vectorised cosine may differ from a scalar one in its last bit; put them together.
        for name, value in own.items():
            assert torch.allclose(value.double(), state[name][..., at].double(), atol=1e-6)
            own[name] = state[name][..., at].clone()
        for mine, theirs in zip(single, row, strict=True):
            if "cartpole" in case:
                assert (mine.double() - theirs[at].double()).abs().mean() < 1e-5
            else:
                assert torch.equal(mine, theirs[at])
    assert max(lengths) > 5 and lengths.count(0) > 0


@every_case
def test_a_step_can_be_captured(case):
    envs = make(case)
    envs.reset(seed=0)
    actions = actions_for(envs, 4)
    with CaptureLaws() as laws:
        play(envs, actions)
        envs.reset()
    assert laws.broken == []
    assert laws.operators > 50


@pytest.fixture
def only_traced(monkeypatch):
    """Compiled steps as the graphs they are traced to, without seconds of compiling."""
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, examples: graph)


@every_case
def test_a_step_is_one_graph(case, only_traced):
    """From the first step after a reset on, where tensors of the state may be one; bit for bit."""
    envs, other = make(case, compile=True), make(case)
    envs.reset(seed=2)
    other.reset(seed=2)
    actions = actions_for(envs, 60)
    assert same(play(envs, actions), play(other, actions))
    assert envs._transition._run is not None
    assert_same(envs.state_dict(), other.state_dict())
    assert same(play_from_reset(envs, 3), play_from_reset(other, 3))


def test_compiled_envs_of_one_process_do_not_mix(only_traced):
    options = [{"num_envs": n} for n in range(1, 5)]
    options += [{"max_episode_steps": 3}, {"fall_reward": -10.0}, {"observation_noise": 0.1}] * 2
    pairs = [(CartPole(**given, compile=True), CartPole(**given)) for given in options]
    for envs, other in pairs:
        assert same(play_from_reset(envs, 1), play_from_reset(other, 1))
    for envs, other in pairs:
        assert same(play_from_reset(envs, None), play_from_reset(other, None))


def test_what_a_compiled_step_expects_it_gets():
    """Real code of a compiler: actions with strides and from numpy, and a state with strides."""
    envs, other = make("cartpole, every option", compile=True), make("cartpole, every option")
    envs.reset(seed=2)
    other.reset(seed=2)
    actions = actions_for(envs, 40)
    slow = torch.stack((actions, 1 - actions), 2)[..., 0]
    assert not slow[0].is_contiguous()
    state = other.state_dict()
    state["state"]["physics"] = state["state"]["physics"].T.contiguous().T
    envs.load_state_dict(state)
    played = play(envs, slow[:20]) + play(envs, [action.numpy() for action in actions[20:]])
    for mine, theirs in zip(played, play(other, actions), strict=True):
        assert mine.dtype == theirs.dtype and mine.is_contiguous()
        assert torch.allclose(mine.double(), theirs.double(), atol=1e-5)
    # A step of a compiled env repeats bit for bit, too, and leaves no trace in what it was given.
    state, again = envs.state_dict(), make("cartpole, every option", compile=True)
    again.load_state_dict(state)
    assert same(play(envs, actions), play(again, actions))


@pytest.mark.slow
@every_case
def test_inductor_compiles_it(case):
    envs, other = make(case, compile=True), make(case)
    envs.reset(seed=2)
    other.reset(seed=2)
    actions = actions_for(envs, 12)
    for mine, theirs in zip(play(envs, actions), play(other, actions), strict=True):
        assert torch.allclose(mine.double(), theirs.double(), atol=1e-5)


def test_an_observation_is_no_part_of_the_state():
    """Nor is one of a single env, whose transpose would need no copy."""
    envs = CartPole(1)
    observation, _ = envs.reset(seed=0)
    for _ in range(2):
        before = envs.state_dict()["state"]["physics"].clone()
        observation.fill_(7.0)
        assert torch.equal(envs.state_dict()["state"]["physics"], before)
        observation = envs.step(torch.zeros(1, dtype=torch.int64))[0]


def test_misuse_is_refused():
    envs = make("catch")
    with pytest.raises(EnvError, match="reset"):
        envs.step(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(EnvError, match="reset"):
        envs.state_dict()
    with pytest.raises(EnvError, match="options"):
        envs.reset(options={"low": 0})
    envs.reset(seed=0)
    with pytest.raises(EnvError, match="shape"):
        envs.step(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(EnvError, match="dtype"):
        envs.step(torch.zeros(5))
    with pytest.raises(EnvError, match="from 0 to 2"):
        envs.step(np.full(5, 3))


@pytest.mark.parametrize(
    ("env_id", "options", "words"),
    [
        ("CartPole-v1", {"observation_noise": -0.1}, "observation_noise = -0.1"),
        ("CartPole-v1", {"action_noise": 1.5}, "action_noise = 1.5"),
        ("CartPole-v1", {"action_noise": float("nan")}, "action_noise = nan"),
        ("CartPole-v1", {"target_position": 2.4}, "target_position = 2.4"),
        ("CartPole-v1", {"target_position": (1.0, 0.0)}, "low, high"),
        ("CartPole-v1", {"target_position": "left"}, "target_position = 'left'"),
        ("CartPole-v1", {"fall_reward": float("inf")}, "fall_reward = inf"),
        ("CartPole-v1", {"gray": True}, "add pixels = True"),
        ("CartPole-v1", {"difference": True}, "add pixels = True"),
        ("CartPole-v1", {"pixels": True, "observation_noise": 0.1}, "observation_noise"),
        ("CartPole-v1", {"pixels": True, "target_position": 1.0}, "target_position"),
        ("CartPole-v1", {"max_episode_steps": 0}, "max_episode_steps = 0"),
        ("CartPole-v1", {"device": "cuda:99"}, "cuda:99"),
        ("Catch-v0", {"size": 80}, "size = 80"),
        ("Catch-v0", {"balls": 0}, "balls = 0"),
        ("Catch-v0", {"colour": True}, "colour"),
        ("Breakout-v0", {"size": 20}, "size = 20"),
        ("Breakout-v0", {"lives": 22}, "lives = 22"),
    ],
)
def test_options_out_of_range(env_id, options, words):
    with pytest.raises(FastDQNError, match=words):
        make_envs(f"fastdqn/{env_id}", 2, **options)


@pytest.mark.gpu
@every_case
def test_on_a_gpu_no_step_waits(case):
    """Nor does the state depend on where it is: the same numbers go on from a CPU's state."""
    envs, other = make(case, 64, device="cuda"), make(case, 64)
    other.reset(seed=0)
    envs.load_state_dict(other.state_dict())
    actions = actions_for(envs, 20)
    on_device = actions.cuda()
    uniform = torch.rand((20, envs._uniforms, 64))
    rows, expected = [], []
    state, own = envs._state, other._state
    for action, device_action, u in zip(actions, on_device, uniform, strict=True):
        state, row = envs.transition(state, device_action, u.cuda())
        own, other_row = other.transition(own, action, u)
        rows, expected = [*rows, *row], [*expected, *other_row]
    for mine, theirs in zip(rows, expected, strict=True):
        assert (mine.cpu().double() - theirs.double()).abs().mean() < 1e-4
    envs.step(on_device[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        play(envs, on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_they_step_as_one():
    with pytest.raises(EnvError, match="vectorization = 'sync' does not apply"):
        make_envs("fastdqn/Catch-v0", 2, vectorization="sync")
    make_envs("fastdqn/Catch-v0", 2, vectorization="vector_entry_point").close()


def test_ids_are_known_and_suggested():
    with pytest.raises(EnvError, match="did you mean 'fastdqn/Catch-v0'"):
        make_envs("fastdqn/Cacth-v0")
    for env_id in ("fastdqn/CartPole-v1", "fastdqn/Catch-v0", "fastdqn/Breakout-v0"):
        assert gymnasium.spec(env_id).vector_entry_point is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"env_id": "fastdqn/CartPole-v1", "env_kwargs": {"observation_noise": 0.01}},
        {
            "env_id": "fastdqn/Catch-v0",
            "env_kwargs": {"size": 36},
            "frame_stack": 2,
            "network": "nature",
        },
    ],
)
def test_a_run_resumes_exactly(tmp_path, changes):
    def config(name, **more):
        return Config(
            num_envs=4,
            total_env_steps=480,
            learning_starts_env_steps=100,
            update_period_env_steps=20.0,
            batch_size=8,
            hidden_sizes=(8,),
            replay_capacity=200,
            eval_episodes=0,
            torch_threads=1,
            run_dir=str(tmp_path / name),
        ).replace(**{**changes, **more})

    def stop(row):
        return True

    train(config("whole"))
    # Stopped by the callback at the first log, in mid-episode; then to the end.
    train(config("parts", log_period_env_steps=200), on_log=stop)
    assert find_checkpoint(tmp_path / "parts").name == "step_000000000200"
    train(config("parts", log_period_env_steps=200, resume="require"))
    whole, parts = (load_checkpoint(find_checkpoint(tmp_path / n)) for n in ("whole", "parts"))
    assert_same(whole["run"]["envs"], parts["run"]["envs"])
    assert_same(whole["learner"], parts["learner"])
    assert_same(whole["replay"], parts["replay"])


def assert_same(one, other) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other
