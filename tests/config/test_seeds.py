"""Seeds: the ranges that envs take for training, evaluations and the final one are apart."""

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastdqn.config.config import Config
from fastdqn.config.seeds import eval_seed, periodic_eval_seed, restart_seed, subseed
from fastdqn.envs.checks import check_seed

HIGHEST = 2**31 - 1
EDGES = [0, 1, 2**29 - 1, 2**29, 2**30 - 65_536, 2**30 - 3, 2**30 - 1, 2**30, 2**30 + 1]


def taken(config: Config, asked: int | None, env_steps: int) -> dict[str, range]:
    n, m = config.num_envs, config.eval_num_envs
    return {
        "training": range(config.seed, config.seed + n),
        "restart": range(restart_seed(config, env_steps), restart_seed(config, env_steps) + n),
        "periodic": range(periodic_eval_seed(config), periodic_eval_seed(config) + m),
        "final": range(eval_seed(config, asked), eval_seed(config, asked) + m),
    }


@given(
    seed=st.sampled_from(EDGES) | st.integers(0, HIGHEST - 65_537),
    asked=st.none() | st.sampled_from(EDGES) | st.integers(0, HIGHEST),
    num_envs=st.sampled_from([1, 8, 65_536]) | st.integers(1, 65_536),
    eval_num_envs=st.sampled_from([1, 65_536]) | st.integers(1, 65_536),
    env_steps=st.integers(0, 2**53),
)
@example(seed=2**30 - 3, asked=1, num_envs=8, eval_num_envs=1, env_steps=0)
@example(seed=2**30 - 1, asked=None, num_envs=65_536, eval_num_envs=65_536, env_steps=0)
def test_no_env_of_an_evaluation_plays_an_episode_of_training(
    seed, asked, num_envs, eval_num_envs, env_steps
):
    config = Config(
        seed=seed, num_envs=num_envs, eval_num_envs=eval_num_envs, replay_capacity=2**20,
        learning_starts_env_steps=2**20,
    )  # fmt: skip
    ranges = taken(config, asked, env_steps)
    for mine in ("training", "restart"):
        for other in ("periodic", "final"):
            a, b = ranges[mine], ranges[other]
            assert a.stop <= b.start or b.stop <= a.start, (mine, a, other, b)
    a, b = ranges["periodic"], ranges["final"]
    assert a.stop <= b.start or b.stop <= a.start
    for name, of in ranges.items():
        check_seed(of.start, len(of)), name  # what every env takes


def test_by_hand():
    config = Config(seed=1)
    assert eval_seed(config) == 2**30 + 1
    assert eval_seed(config, 7) == 2**30 + 7
    assert eval_seed(config.replace(seed=2**30 + 5)) == 5 + 2**18
    assert restart_seed(config, 400) != restart_seed(config, 401)
    for seed in (1, 2**30 + 5):
        again = restart_seed(config.replace(seed=seed), 400)
        assert again >> 30 == seed >> 30, "in the half of training"


@pytest.mark.parametrize("name", ["network", "replay"])
def test_parts_draw_other_numbers(name):
    assert subseed(1, name) not in (subseed(2, name), subseed(1, "actor"), 1)


def test_subseeds_by_hand():
    # crc32 of "1/network", "1/replay" and "7/actor": runs repeat from one version to the next.
    assert [subseed(1, "network"), subseed(1, "replay"), subseed(7, "actor")] == [
        50194439,
        2101711022,
        2214941349,
    ]


@given(
    seed=st.integers(0, HIGHEST),
    name=st.text(max_size=8),
    ranks=st.sets(st.integers(0, 2**20), min_size=2, max_size=20),
)
def test_a_seed_is_one_function_of_seed_name_and_rank(seed, name, ranks):
    assert subseed(seed, name, 0) == subseed(seed, name) == zlib.crc32(f"{seed}/{name}".encode())
    found = {subseed(seed, name, rank) for rank in ranks}
    assert len(found) == len(ranks), "no two ranks draw the same numbers"
    assert all(0 <= number < 2**32 for number in found)
