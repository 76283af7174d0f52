"""What a replay and a sum tree refuse, in one sentence, with nothing written before."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers.capture_parts import tensors_of

from fastdqn import FastDQNError, ReplayBuffer, SumTree, TimeStep

pytestmark = pytest.mark.usefixtures("both_ways")

N, A = 2, 3
VECTOR, IMAGE = Box(-1, 1, (4,), np.float32), Box(0, 255, (5, 5), np.uint8)
S = np.zeros((N, 4), np.float32)
PICTURE = np.zeros((N, 5, 5), np.uint8)
ACTION, REWARD = np.zeros(N, np.int64), np.zeros(N, np.float32)
NO = np.zeros(N, bool)
STEP = TimeStep(S, REWARD, NO, NO, NO)
RESET = STEP._replace(first=~NO)
MOVE = {"observation": S, "action": ACTION, "reward": REWARD, "next_observation": S,
        "terminated": NO, "truncated": NO}  # fmt: skip
INDEX, ONES = torch.tensor([2, 4]), torch.ones(2)
META = torch.device("meta")
NAN, INF = float("nan"), float("inf")


def replay(space=VECTOR, rows=8, **kwargs):
    made = ReplayBuffer(40, N, space, num_actions=A, prioritized=True, **kwargs)
    s = np.zeros((N, *space.shape), space.dtype)
    for i in range(rows):
        made.add(TimeStep(s, REWARD, NO, NO, NO | (i == 0)), None if i == 0 else ACTION)
    return made


def made(*args, **kwargs):
    given = {"capacity": 40, "num_envs": N, "observation_space": VECTOR, **kwargs}
    return ReplayBuffer(*args, **({} if args else given))


def add(step=STEP, actions=ACTION, **kwargs):
    return lambda replay: replay.add(step, actions, **kwargs)


def row(**changes):
    return add(STEP._replace(**changes))


def move(**changes):
    return lambda replay: replay.add_transition(**{**MOVE, **changes})


def many(**changes):
    arrays = {name: np.stack([array] * 3) for name, array in MOVE.items()}
    return lambda replay: replay.extend(**{**arrays, **changes})


def priorities(index=INDEX, priority=ONES):
    return lambda replay: replay.update_priorities(index, priority)


def draw(*args, **kwargs):
    return lambda replay: replay.sample(*args, **kwargs)


def gather(index):
    return lambda replay: replay.gather(index)


CALLS = [
    (add("step"), "step is str; pass a fastdqn.TimeStep"),
    (add((S, REWARD)), "step is tuple"),
    (add(None), "step is NoneType"),
    (add(actions=None), "first is not set for every env in a step without actions"),
    (add(actions=[0, 1]), "action is list; pass a NumPy array or a tensor"),
    (add(actions=ACTION[:, None]), r"action has shape \[2, 1\]; use \[2\]"),
    (add(actions=ACTION[:1]), r"action has shape \[1\]"),
    (add(actions=ACTION.astype(float)), "action is float64; make it int64"),
    (add(actions=NO), "action is bool"),
    (add(actions=ACTION + A), "action holds 3, where there are 3 actions"),
    (add(actions=torch.tensor([0, -1])), "action holds -1"),
    (row(observation=S[0]), r"observation has shape \[4\]; use \[2, 4\], one frame for each of 2"),
    (row(observation=S[:, None]), r"observation has shape \[2, 1, 4\]"),
    (row(observation=S[:, :3]), r"observation has shape \[2, 3\]"),
    (row(observation=S.astype(object)), "observation is object; make it float32"),
    (row(observation={"image": S}), "observation is dict"),
    (row(observation=torch.zeros(N, 4, device=META)), "observation is on meta"),
    (row(reward=REWARD[:, None]), r"reward has shape \[2, 1\]"),
    (row(reward=0.0), "reward is float"),
    (row(reward=REWARD.astype(complex)), "reward is complex128"),
    (row(terminated=REWARD), "terminated is float32; make it bool"),
    (row(truncated=None), "truncated is NoneType"),
    (row(first=NO[:1]), r"first has shape \[1\]"),
    (row(reset=NO), "reset_observation is NoneType"),
    (row(reset=NO, reset_observation=S[:1]), r"reset_observation has shape \[1, 4\]"),
    (row(reset=ACTION, reset_observation=S), "reset is int64; make it bool"),
    (row(observation=S.astype(">f4")), "observation is >f4; make it float32"),
    (add(actions=ACTION.astype(">i8")), "action is >i8; make it int64"),
    # Transitions.
    (move(observation=S[0]), r"observation has shape \[4\]"),
    (move(next_observation=S[:1]), r"next_observation has shape \[1, 4\]"),
    (move(action=ACTION[:, None]), r"action has shape \[2, 1\]"),
    (move(action=ACTION + A), "action holds 3"),
    (move(reward=[0.0, 0.0]), "reward is list"),
    (move(terminated=0), "terminated is int"),
    (move(truncated=ACTION), "truncated is int64"),
    (move(mask=ACTION), "mask is int64"),
    (move(mask=NO[:, None]), r"mask has shape \[2, 1\]"),
    (many(observation=S), r"observation has shape \[2, 4\]; use \[2, 2, 4\]"),
    (many(action=ACTION), r"action has shape \[2\]; use \[3, 2\]"),
    (many(action=np.full((3, N), A)), "action holds 3"),
    (many(reward=None), "reward is NoneType"),
    (many(next_observation=np.zeros((4, N, 4))), r"next_observation has shape \[4, 2, 4\]"),
    (many(terminated=np.zeros((3, N))), "terminated is float64"),
    # Draws and priorities.
    (draw(0), "batch_size = 0"),
    (draw(-3), "batch_size = -3"),
    (draw(2.5), "batch_size = 2.5"),
    (draw("8"), "batch_size = '8'"),
    (draw(None), "batch_size = None"),
    (draw(True), "batch_size = True"),
    (draw(4, beta="1"), "beta = '1'"),
    (draw(4, beta=-1.0), "beta = -1"),
    (draw(4, beta=NAN), "beta = nan"),
    (draw(4, beta=torch.ones(4)), r"beta has shape \[4\]"),
    (draw(4, beta=torch.ones((), device=META)), "beta is on meta"),
    (priorities(priority=ONES[:, None]), r"priority has shape \[2, 1\]; use one number for each"),
    (priorities(priority=ONES[:1]), r"priority has shape \[1\], where index has \[2\]"),
    (priorities(priority=[1.0, 1.0]), "priority is list"),
    (priorities(priority=np.ones(2)), "priority is ndarray"),
    (priorities(priority=ONES.long()), "priority is torch.int64; make it float32"),
    (priorities(priority=ONES.to(META)), "priority is on meta"),
    (priorities(INDEX[:, None]), r"index has shape \[2, 1\]"),
    (priorities(INDEX.int()), "index is torch.int32; make it int64"),
    (priorities(INDEX + 100), "index has values from 102 to 104; use numbers from 0 to 39"),
    (priorities(INDEX - 3), "index has values from -1 to 1"),
    (priorities(3), "index is int"),
    (gather(INDEX + 100), "use numbers from 0 to 39"),
    (gather(torch.tensor([2, 39])), "row 39, which starts no transition"),
    (gather([1, 2]), "index is list"),
    (gather(torch.zeros(2, dtype=torch.bool)), "index is torch.bool"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), CALLS, ids=[said for _, said in CALLS])
def test_a_wrong_call_writes_nothing(call, said):
    kept = replay()
    before = [t.clone() for t in tensors_of(kept.state_dict())]
    with pytest.raises(FastDQNError, match=said) as refused:
        call(kept)
    one_sentence(refused)
    for now, then in zip(list(tensors_of(kept.state_dict())), before, strict=True):
        assert torch.equal(now, then)
    kept.add(STEP, ACTION)  # and what is right is still taken
    kept.add_transition(**MOVE)
    assert int(kept.cursor[0]) == 9


class LikeAnArray:
    """Has a shape and a dtype, and is none."""

    shape, dtype = S.shape, S.dtype


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda replay: replay.extend(**MOVE), r"observation has shape \[2, 4\]; use \[2, 2, 4\]"),
        (move(observation=LikeAnArray()), "observation is LikeAnArray"),
        (move(observation=torch.zeros(N, 4, device=META)), "observation is on meta"),
        (move(next_observation=torch.zeros(N, 4, device=META)), "next_observation is on meta"),
    ],
)
def test_what_looks_like_something_met_before_is_refused(call, said):
    kept = replay()
    kept.add_transition(**MOVE)
    for name in ("observation", "next_observation"):
        kept.add_transition(**{**MOVE, name: torch.from_numpy(MOVE[name])})
    before = [t.clone() for t in tensors_of(kept.state_dict())]
    with pytest.raises(FastDQNError, match=said) as refused:
        call(kept)
    one_sentence(refused)
    assert all(map(torch.equal, tensors_of(kept.state_dict()), before))


def test_a_number_in_place_of_a_column_is_refused():
    alone = made(num_envs=1)
    arrays = [np.zeros(3, MOVE[name].dtype) for name in list(MOVE)[1:3]]
    frames, no = np.zeros((3, 4), np.float32), np.zeros(3, bool)
    with pytest.raises(FastDQNError, match="has shape"):
        alone.extend(frames, *arrays, frames, no, np.array(False))


@pytest.mark.parametrize("prioritized", [False, True])
def test_nothing_is_drawn_where_no_row_may_be(prioritized):
    """Of four rows one can be drawn at a time; where an episode ends there it cannot."""
    small = made(capacity=4, num_envs=1, n_step=2, prioritized=prioritized)
    no, s = np.zeros(1, bool), S[:1]
    for _ in range(3):
        small.add_transition(s, ACTION[:1], REWARD[:1], s, ~no, no)
    assert small.cursor == 5 and len(small) == 0
    with pytest.raises(FastDQNError, match="holds no transition that may be drawn") as refused:
        small.sample(2)
    one_sentence(refused)
    small.add(TimeStep(s, REWARD[:1], no, no, no), ACTION[:1])
    assert small.sample(2).index.tolist() == [0, 0]


def one_sentence(refused):
    text = str(refused.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 400


MADE = [
    ({"capacity": 0}, "capacity = 0"),
    ({"capacity": 2.5}, "capacity = 2.5"),
    ({"capacity": "1000"}, "capacity = '1000'"),
    ({"capacity": 2}, "replay_capacity = 2"),
    ({"num_envs": 0}, "num_envs = 0"),
    ({"num_envs": None}, "num_envs = None"),
    ({"observation_space": (4,)}, "observation_space is tuple; use the gymnasium.spaces.Box"),
    ({"observation_space": gymnasium.spaces.Dict(a=VECTOR)}, "observation_space is Dict; a replay"),
    ({"observation_space": gymnasium.spaces.Discrete(3)}, "observation_space is Discrete"),
    ({"frame_stack": 0}, "frame_stack = 0"),
    ({"frame_stack": "4"}, "frame_stack = '4'"),
    ({"stack_padding": "edge"}, "stack_padding = 'edge'"),
    ({"n_step": 0}, "n_step = 0"),
    ({"n_step": 1.5}, "n_step = 1.5"),
    ({"gamma": 1.5}, "gamma = 1.5"),
    ({"gamma": None}, "gamma = None"),
    ({"reward_clip": 0}, "reward_clip = 0"),
    ({"prioritized": 1}, "prioritized = 1"),
    ({"alpha": "0.6"}, "alpha = '0.6'"),
    ({"alpha": 2.0}, "alpha = 2"),
    ({"priority_epsilon": NAN}, "priority_epsilon = nan"),
    ({"num_actions": 0}, "num_actions = 0"),
    ({"device": "gpu"}, "device = 'gpu'"),
    ({"seed": "one"}, "seed = 'one'"),
    ({"seed": 10**30}, "seed = "),
    ({"mode": "fast"}, "mode = 'fast'"),
    ({"compile_backend": 3}, "compile_backend is int"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), MADE, ids=[said for _, said in MADE])
def test_a_replay_that_cannot_be_is_refused(arguments, said):
    with pytest.raises(FastDQNError, match=said) as refused:
        made(**arguments)
    one_sentence(refused)


def test_a_first_row_without_a_reset_is_refused():
    fresh = made()
    for actions in (ACTION, None):
        with pytest.raises(FastDQNError, match="first is not set for every env") as refused:
            fresh.add(STEP, actions)
        one_sentence(refused)
    assert fresh.cursor.tolist() == [-1, -1]
    fresh.add(RESET, None)
    fresh.add(RESET, None)  # and a reset of all in between
    assert fresh.cursor.tolist() == [1, 1]


def test_pictures_are_not_cast():
    pictures = replay(IMAGE)
    step = TimeStep(PICTURE, REWARD, NO, NO, NO)
    with pytest.raises(FastDQNError, match=r"observation is float64; frames of .* are uint8"):
        pictures.add(step._replace(observation=PICTURE / 255), ACTION)
    pictures.add(step, ACTION)


def test_what_has_one_meaning_works():
    kept = replay()
    q = torch.ones(2, requires_grad=True)
    kept.update_priorities(INDEX, (q * 3).double())
    assert torch.allclose(kept.tree.get(INDEX), torch.tensor(3.0 + 1e-6) ** 0.6)
    assert kept.max_priority == 3.0 and kept.sample(np.int64(4), beta=1).weight.shape == (4,)
    kept.add(STEP._replace(reward=ACTION), ACTION.astype(np.int32))
    kept.update_priorities(INDEX[:0], ONES[:0])
    assert len(kept.gather(INDEX[:0]).action) == 0


TREE = [
    (lambda tree: tree.set(INDEX, torch.tensor([1.0, NAN])), "value holds nan"),
    (lambda tree: tree.set(INDEX, torch.tensor([1.0, INF])), "value holds inf"),
    (lambda tree: tree.set(INDEX, torch.tensor([1.0, -1.0])), "value holds -1"),
    (lambda tree: tree.set(INDEX, ONES[:, None]), r"value has shape \[2, 1\]"),
    (lambda tree: tree.set(INDEX, ONES.int()), "value is torch.int32"),
    (lambda tree: tree.set(INDEX.int(), ONES), "index is torch.int32"),
    (lambda tree: tree.set(INDEX + 99, ONES), "use numbers from 0 to 99"),
    (lambda tree: tree.set([0, 1], ONES), "index is list"),
    (lambda tree: tree.set(INDEX.to(META), ONES), "index is on meta"),
    (lambda tree: tree.get(INDEX - 3), "use numbers from 0 to 99"),
    (lambda tree: tree.get(2), "index is int"),
    (lambda tree: tree.sample(torch.rand(4)), r"uniform is \[4\] torch.float32 on cpu"),
    (lambda tree: tree.sample(torch.rand(9, 4)), r"uniform is \[9, 4\]"),
    (lambda tree: tree.sample(torch.rand(1, 4).double()), "float64"),
    (lambda tree: tree.sample(0.5), "uniform is float"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), TREE, ids=[said for _, said in TREE])
def test_a_wrong_call_leaves_a_tree_as_it_was(call, said):
    tree = SumTree(100)
    tree.set(torch.arange(100), torch.rand(100))
    before = [t.clone() for t in tensors_of(tree.state_dict())]
    with pytest.raises(FastDQNError, match=said) as refused:
        call(tree)
    one_sentence(refused)
    assert all(map(torch.equal, tensors_of(tree.state_dict()), before))
    tree.check_valid()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"capacity": 0}, "capacity = 0"),
        ({"capacity": "9"}, "capacity = '9'"),
        ({"capacity": 9, "fanout": 1}, "fanout = 1"),
        ({"capacity": 9, "fanout": 4.0}, "fanout = 4.0"),
        ({"capacity": 9, "device": "tpu"}, "device = 'tpu'"),
    ],
)
def test_a_tree_that_cannot_be_is_refused(arguments, said):
    with pytest.raises(FastDQNError, match=said) as refused:
        SumTree(**arguments)
    one_sentence(refused)
