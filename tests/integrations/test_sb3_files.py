"""Models and replays in files: what comes back, what is refused, and that nothing is unpickled.

Statements after Stable-Baselines3's tests of saving and loading; docs/backend/sb3.md lists them.
"""

import copy
import io
import pickle
import zipfile

import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from helpers.stable_envs import counted

import fastdqn
from fastdqn.checkpoints.store import save_checkpoint
from fastdqn.integrations.sb3 import DQN
from fastdqn.integrations.sb3.space_state import space_of, space_state

SMALL = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 500, "learning_starts": 20,
         "device": "cpu", "seed": 0}  # fmt: skip


def model(envs=None, policy="MlpPolicy", **more):
    return DQN(policy, envs or counted(2, (5,), 1), **{**SMALL, **more})


def same(one, other):
    one, other = one.engine.state_dict(), other.engine.state_dict()
    flat = [x for s in (one, other) for x in [flatten(s)]]
    return flat[0].keys() == flat[1].keys() and all(
        torch.equal(v, flat[1][k]) if isinstance(v, torch.Tensor) else v == flat[1][k]
        for k, v in flat[0].items()
    )


def flatten(value, path=""):
    if isinstance(value, dict):
        return {k2: v2 for k, v in value.items() for k2, v2 in flatten(v, f"{path}/{k}").items()}
    return {path: value}


SEEN = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32) * 20


@pytest.mark.parametrize("more", [
    {}, {"head": "qr", "quantiles": 8, "dueling": True, "prioritized": True, "n_steps": 3},
    {"noisy": True, "optimizer": "rmsprop", "normalize_observations": True},
    {"train_freq": (3, "step"), "hidden_sizes": (8, 4), "max_grad_norm": None},
], ids=str)  # fmt: skip
def test_a_model_comes_back_whole(tmp_path, more):
    made = model(**more, target_update_interval=300).learn(60)
    made.save(tmp_path / "a" / "model")
    assert (tmp_path / "a" / "model.zip").exists()
    for path in (tmp_path / "a" / "model", str(tmp_path / "a" / "model.zip")):
        found = DQN.load(path, device="cpu")
        assert same(found, made)
        actions = [m.predict(SEEN, deterministic=True)[0] for m in (made, found)]
        assert (actions[0] == actions[1]).all() and len(set(actions[0])) > 1
        assert found.num_timesteps == made.num_timesteps
        assert found.target_update_interval == made.target_update_interval == 300
        assert found.exploration_rate == made.exploration_rate
        assert found.get_env() is None and found.replay_buffer is None
    with pytest.raises(fastdqn.ConfigError, match="set_env"):
        found.learn(10)
    found.set_env(counted(2, (5,), 1))
    found.learn(20, reset_num_timesteps=False)
    assert found.num_timesteps >= made.num_timesteps + 20
    assert (tmp_path / "a").exists() and [p.name for p in (tmp_path / "a").iterdir()] == [
        "model.zip"
    ]


def test_stacked_images_come_back(tmp_path):
    cheap = {"hidden_sizes": (8,), "precision": "fp32", "torch_threads": 1, "batch_size": 4}
    made = model(counted(2, (36, 36, 1)), "CnnPolicy", policy_kwargs=None, **cheap)
    made.save(tmp_path / "model")
    found = DQN.load(tmp_path / "model", device="cpu")
    seen = np.random.default_rng(0).integers(0, 255, (20, 4, 36, 36), dtype=np.uint8)
    q = [m.engine.q_values(m.engine.spaces.stacks(seen)[0]) for m in (made, found)]
    assert torch.equal(*q) and found.engine.spaces.frame_stack == 4


def test_a_resumed_model_learns_what_an_unbroken_one_does(tmp_path):
    """Given the replay and the state of the envs, which a fresh copy of them has again."""
    one, other = model(), model()
    for made in (one, other):
        made.learn(60)
    other.save(tmp_path / "model")
    other.save_replay_buffer(tmp_path / "replay")
    found = DQN.load(tmp_path / "model", env=counted(2, (5,), 1), device="cpu")
    found.load_replay_buffer(tmp_path / "replay")
    for name, value in one.replay_buffer.state_dict()["ring"].items():
        assert torch.equal(value, found.replay_buffer.state_dict()["ring"][name]), name
    batches = [made.replay_buffer.sample(16) for made in (one, found)]
    assert torch.equal(batches[0].index, batches[1].index)
    for made, batch in zip((one, found), batches, strict=True):
        made.engine.learner.update(batch)
    assert torch.equal(one.engine.learner.flat.data, found.engine.learner.flat.data)


@pytest.mark.parametrize(
    "more", [{"train_freq": 1}, {"n_steps": 6}, {"prioritized": True}], ids=str
)
def test_a_loaded_model_learns_on_with_an_empty_replay(tmp_path, more):
    more = {"train_freq": 1, **more}
    model(**more).learn(60).save(tmp_path / "model")
    found = DQN.load(tmp_path / "model", env=counted(2, (5,), 1), device="cpu")
    before = found._n_updates
    found.learn(40, reset_num_timesteps=False)
    # Those wait until n + 2 rows of each env are there, of which the reset gave the first.
    assert found.num_timesteps == 100 and found._n_updates - before == 20 - found.n_steps
    assert found.engine.learner.updates == found._n_updates


def test_a_prioritized_replay_is_drawn_uniformly_by_a_model_that_is_not(tmp_path):
    made = model(prioritized=True).learn(60)
    made.save_replay_buffer(tmp_path / "replay")
    other = model()
    other.load_replay_buffer(tmp_path / "replay")
    found, saved = other.replay_buffer.tree, made.replay_buffer.tree
    assert len(saved.leaves.unique()) > 2  # none, and several priorities
    assert torch.equal(found.leaves, (saved.leaves > 0).float())
    assert float(found.total) == len(other.replay_buffer)


def test_files_may_be_streams():
    made, file = model(), io.BytesIO()
    made.save(file)
    file.seek(0)
    assert same(DQN.load(file, device="cpu"), made)


def test_nothing_is_pickled(tmp_path, monkeypatch):
    made = model().learn(40)

    def refuse(*args, **kwargs):
        raise AssertionError("pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch, "save", refuse)
    made.save(tmp_path / "model")
    made.save_replay_buffer(tmp_path / "replay.pkl")
    found = DQN.load(tmp_path / "model", device="cpu")
    found.load_replay_buffer(tmp_path / "replay.pkl")
    for name in ("model.zip", "replay.pkl"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            endings = {entry.rpartition(".")[2] for entry in archive.namelist()}
        assert endings == {"json", "safetensors"}


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_model_is_saved_not_copied(copied):
    with pytest.raises(fastdqn.FastDQNError, match=r"use save, and DQN\.load"):
        copied(model())


def test_keywords_may_be_others_after_loading(tmp_path):
    made = model(learning_rate=lambda remaining: 1e-3 * remaining)
    made.save(tmp_path / "model")
    found = DQN.load(tmp_path / "model", custom_objects={"learning_rate": 0.5, "lr_schedule": 1},
                     buffer_size=70, device="cpu")  # fmt: skip
    assert found.lr_schedule(1.0) == 0.5 and found.engine.config.replay_capacity == 70 + 4
    assert DQN.load(tmp_path / "model").lr_schedule(1.0) == 1e-4  # a function is not in the file
    with pytest.warns(UserWarning, match="learning_rate was a function"):  # here it would learn
        DQN.load(tmp_path / "model", env=made.get_env())
    with pytest.raises(fastdqn.ConfigError, match=r"buffer_siz is no keyword .*buffer_size"):
        DQN.load(tmp_path / "model", buffer_siz=3)


def test_other_envs_are_refused(tmp_path):
    made = model()
    made.save(tmp_path / "model")
    for wrong in (counted(2, (6,), 1), "CartPole-v1"):
        with pytest.raises(fastdqn.ConfigError, match="use envs like those"):
            DQN.load(tmp_path / "model", env=wrong)
        with pytest.raises(fastdqn.ConfigError, match=r"use envs like those|pass them to DQN.load"):
            made.set_env(wrong)
    with pytest.raises(fastdqn.ConfigError, match="3 envs, where the model learns in 2"):
        made.set_env(counted(3, (5,), 1))
    more = DQN.load(tmp_path / "model", env=counted(3, (5,), 1), device="cpu")
    assert more.n_envs == 3 and more.learn(30).num_timesteps >= 30


def test_stacks_of_other_envs_are_looked_at():
    made = model(counted(2, (5,), 4)).learn(40)
    made.set_env(counted(2, (20,), stack=1))  # of the same space, and no stacks
    with pytest.raises(fastdqn.EnvError, match="stack_padding = 'zero'"):
        made.learn(40)
    made.set_env(counted(2, (5,), 4))
    assert made.learn(40).num_timesteps == 40


def test_vec_frame_stack_does_not_repeat():
    with pytest.raises(fastdqn.EnvError, match="use 'zero'"):
        model(counted(2, (5,), 4), stack_padding="repeat").learn(40)


def test_other_envs_alike_go_on():
    made = model().learn(40)
    envs = counted(2, (5,), 1)
    made.set_env(envs)
    assert made.get_env() is envs
    made.learn(40, reset_num_timesteps=False)
    # No transition leads from the last observation of the old envs to the first of the new ones.
    rows = (made.replay_buffer.tree.leaves > 0).nonzero().squeeze(1)
    batch = made.replay_buffer.gather(rows)
    steps = (batch.next_observation - batch.observation)[:, 0]
    assert set(steps.tolist()) == {100.0} and len(rows) == 80


def test_parameters_are_copied_by_name(tmp_path):
    one, other = model(seed=1).learn(60), model(seed=2)
    parameters = one.get_parameters()
    assert set(parameters) == {"policy", "policy_target", "policy.optimizer"}
    other.set_parameters(parameters)
    assert all(torch.equal(v, other.get_parameters()["policy"][k])
               for k, v in parameters["policy"].items())  # fmt: skip
    one.learn(20)  # they were copies
    assert not same(one, other)
    one.save(tmp_path / "model")
    other.set_parameters(tmp_path / "model")
    chosen = [made.predict(SEEN, deterministic=True)[0] for made in (one, other)]
    assert (chosen[0] == chosen[1]).all()
    third = model(seed=3)
    before = third.get_parameters()["policy_target"]
    third.set_parameters({"policy": parameters["policy"]}, exact_match=False)
    assert all(
        torch.equal(v, before[k]) for k, v in third.get_parameters()["policy_target"].items()
    )
    for wrong in ({"policy": parameters["policy"]}, {}, {**parameters, "critic": {}}):
        with pytest.raises(fastdqn.ConfigError, match="all that get_parameters returned"):
            third.set_parameters(wrong)
    with pytest.raises(fastdqn.CheckpointError, match="missing from the checkpoint"):
        third.set_parameters({**parameters, "policy": {}})


def damaged(tmp_path, name):
    """A file that is wrong in some way, and what is said of it."""
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    made = model()
    made.save(good)
    data = bytearray(good.read_bytes())
    if name == "cut short":
        bad.write_bytes(data[: len(data) // 2])
    elif name == "a byte changed":
        data[len(data) // 3] ^= 1
        bad.write_bytes(data)
    elif name == "empty":
        bad.write_bytes(b"")
    elif name == "SB3's own":
        stable_baselines3.DQN("MlpPolicy", "CartPole-v1", buffer_size=10).save(bad)
    elif name == "a pickle":
        bad.write_bytes(pickle.dumps({"model": 1}))
    elif name == "compressed":
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.namelist():
                new.writestr(entry, old.read(entry))
    elif name == "leads out":
        with zipfile.ZipFile(bad, "w") as new:
            new.writestr("../outside", b"x")
    elif name == "a replay":
        made.save_replay_buffer(bad)
    elif name == "an action space that is none":
        forge(tmp_path, bad, made, action_space={"kind": "Discrete", "n": -3, "start": 0})
    elif name == "keywords that are none":
        forge(tmp_path, bad, made, keywords={"policy": "MlpPolicy", "rm": "-rf"})
    elif name == "other keywords":
        forge(tmp_path, bad, made, keywords={"policy": "MlpPolicy",
                                             "policy_kwargs": {"net_arch": [9]}})  # fmt: skip
    return bad


def forge(tmp_path, bad, made, **changes):
    spaces_ = made.engine.spaces
    body = {
        "keywords": {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [8]}}, "n_envs": 2,
        "counters": {}, "observation_space": space_state(spaces_.space),
        "action_space": space_state(spaces_.action_space), **changes,
    }  # fmt: skip
    kind = {"kind": "fastdqn.integrations.sb3", "part": "model"}
    state = {"kind": kind, "model": body, "engine": made.engine.state_dict()}
    path = save_checkpoint(tmp_path / "forged", 0, state, 1)
    with zipfile.ZipFile(bad, "w") as archive:
        for piece in path.iterdir():
            archive.write(piece, piece.name)


@pytest.mark.parametrize(
    "name",
    ["cut short", "a byte changed", "empty", "SB3's own", "a pickle", "compressed", "leads out",
     "a replay", "an action space that is none", "keywords that are none", "other keywords"],
)  # fmt: skip
def test_a_wrong_file_is_one_sentence(tmp_path, name):
    bad = damaged(tmp_path, name)
    with pytest.raises(fastdqn.CheckpointError) as refused:
        DQN.load(bad)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")
    assert not (tmp_path.parent / "outside").exists()
    if name not in ("a replay",):
        with pytest.raises(fastdqn.CheckpointError):
            model().load_replay_buffer(bad)


def test_a_file_that_is_not_there():
    with pytest.raises(fastdqn.CheckpointError, match=r"nowhere does not exist, nor .*\.zip"):
        DQN.load("nowhere")


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch):
    made = model()
    made.save(tmp_path / "model.zip")
    before = (tmp_path / "model.zip").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    with pytest.raises(fastdqn.CheckpointError, match="make room"):
        made.save(tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


@pytest.mark.parametrize("space", [
    spaces.Box(0, 255, (4, 8, 8), np.uint8), spaces.Box(-np.inf, np.inf, (3,), np.float64),
    spaces.Discrete(5, start=-2), spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(4),
    spaces.MultiDiscrete([3, 4], start=[1, -2]),
    spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)}),
], ids=str)  # fmt: skip
def test_spaces_come_back(tmp_path, space):
    from fastdqn.checkpoints.store import load_checkpoint

    path = save_checkpoint(tmp_path, 0, {"space": space_state(space)}, 1)
    found = space_of(load_checkpoint(path)["space"])
    assert found == space
    if isinstance(space, spaces.MultiDiscrete):  # some versions of Gymnasium compare nvec alone
        assert np.array_equal(found.start, space.start)
