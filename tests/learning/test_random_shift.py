"""Images moved by a few pixels: against loops, and in every way to run an update."""

import hypothesis
import numpy as np
import pytest
import torch
from helpers.given_batches import B, Given, batch
from helpers.planted import plant
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import fastdqn.learning.random_shift
from fastdqn.config.config import Config
from fastdqn.errors import ConfigError
from fastdqn.learning.learner import Learner
from fastdqn.learning.random_shift import RandomShift, check_shift, moved
from fastdqn.networks.make import make_network
from fastdqn.training.train import train

K, PIXELS = 2, 3


def naive_moved(images, offsets):
    """Padded with its edges, then cut out, one image at a time."""
    found = images.copy()
    for b, (down, right) in enumerate(offsets):
        pad = [(0, 0)] * (images.ndim - 3) + [(abs(down),) * 2, (abs(right),) * 2]
        padded = np.pad(images[b], pad, mode="edge")
        top, left = abs(down) + down, abs(right) + right
        height, width = images.shape[-2:]
        found[b] = padded[..., top : top + height, left : left + width]
    return found


@hypothesis.given(data=st.data())
def test_images_move_as_padded_ones_that_are_cut_out(data):
    shape = data.draw(arrays.array_shapes(min_dims=4, max_dims=5, max_side=6))
    dtype = data.draw(st.sampled_from([np.uint8, np.float32]))
    images = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    offset = st.integers(-7, 7)
    offsets = data.draw(arrays.arrays(np.int64, (shape[0], 2), elements=offset))
    found = moved(torch.from_numpy(images), torch.from_numpy(offsets))
    assert found.dtype == torch.from_numpy(images).dtype
    assert found.is_contiguous()
    np.testing.assert_array_equal(found, naive_moved(images, offsets))


def test_by_hand():
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]])
    down, left = torch.tensor([[1, 0]]), torch.tensor([[0, -2]])
    assert moved(image, down).tolist() == [[[[4, 5, 6], [4, 5, 6]]]]
    assert moved(image, left).tolist() == [[[[1, 1, 1], [4, 4, 4]]]]


def test_images_that_do_not_lie_in_order_move_likewise():
    images = torch.rand(2, 5, 6, 3).permute(0, 3, 1, 2)
    offsets = torch.tensor([[1, -2], [0, 3]])
    assert torch.equal(moved(images, offsets), moved(images.contiguous(), offsets))


def test_every_offset_is_as_likely_and_none_hangs_on_another():
    shift = RandomShift(PIXELS, lambda moved: moved)
    drawn = shift.draw(40_000, torch.Generator().manual_seed(0)).flatten(1)
    assert drawn.dtype == torch.int64
    for values in drawn.T:  # rows and columns, of both observations
        counts = torch.bincount(values + PIXELS, minlength=2 * PIXELS + 1)
        assert len(counts) == 2 * PIXELS + 1
        expected = len(drawn) / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < 22.5  # chi-square, 6 df, p = .001
    assert (torch.corrcoef(drawn.T.double()) - torch.eye(4)).abs().max() < 0.02


def test_state_and_next_state_move_by_their_own_draws_and_all_else_stays():
    one = batch(image=True)
    before = [field.clone() for field in one]
    shift = RandomShift(PIXELS, lambda moved: moved)
    offsets = shift.draw(B, torch.Generator().manual_seed(0))
    found = shift(one, offsets)
    assert torch.equal(found.observation, moved(one.observation, offsets[:, 0]))
    assert torch.equal(found.next_observation, moved(one.next_observation, offsets[:, 1]))
    for name in ("action", "reward", "discount", "weight", "index"):
        assert getattr(found, name) is getattr(one, name)
    assert all(map(torch.equal, one, before))


# --- in an update --------------------------------------------------------------------------------


def make_learner(random_shift=PIXELS, *, kind="der", noisy=True, **options):
    torch.manual_seed(0)
    network = make_network(
        (25, 25), 3, kind=kind, frame_stack=2, hidden_sizes=(16,), noisy=noisy, dueling=True
    )
    given = {"learning_rate": 1e-2, "optimizer_epsilon": 1e-2, "precision": "fp32", **options}
    return Learner(network, random_shift=random_shift, **given)


def test_an_update_is_that_of_a_learner_whose_batch_was_moved_before():
    learner, plain = make_learner(), make_learner(0)
    for seed in range(3):
        one, generator = batch(seed, image=True), plain.generator
        shift = torch.randint(-PIXELS, PIXELS + 1, (B, 2, 2), generator=generator).numpy()
        images = [
            torch.from_numpy(naive_moved(image.numpy(), shift[:, i]))
            for i, image in enumerate((one.observation, one.next_observation))
        ]
        moved_one = one._replace(observation=images[0], next_observation=images[1])
        assert all(map(torch.equal, learner.update(one), plain.update(moved_one)))
        assert torch.equal(learner.generator.get_state(), generator.get_state())
    assert torch.equal(learner.flat.data, plain.flat.data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self._moved(batch.next_observation, offsets[:, 1])", "batch.next_observation"),
        ("offsets[:, 1])", "offsets[:, 0])"),
        ("offsets[:, :1]).clamp", "offsets[:, 1:]).clamp"),
        ("torch.arange(width, device=device) +", "torch.arange(width, device=device) -"),
    ],
)
def test_what_moves_otherwise_is_found(old, new, monkeypatch):
    plant(monkeypatch, fastdqn.learning.random_shift, old, new)
    with pytest.raises(AssertionError):
        test_an_update_is_that_of_a_learner_whose_batch_was_moved_before()


def test_without_it_nothing_is_drawn():
    learner = make_learner(0, noisy=False)
    before = learner.generator.get_state()
    learner.update(batch(image=True))
    assert torch.equal(learner.generator.get_state(), before)


@pytest.mark.parametrize("mode", ["eager", "compile"])
def test_several_as_one_are_moved_as_one_by_one(mode):
    # Seconds less to compile than convolutions; larger steps would multiply what is rounded.
    small = {"kind": "mlp", "noisy": False, "learning_rate": 1e-3}
    options = {"mode": mode, "compile_backend": "aot_eager", "updates_per_launch": K}
    whole, plain = make_learner(**small, **options), make_learner(**small, mode="eager")
    assert (whole._fused is not None) == (mode == "compile")
    replay, twin = Given(image=True), Given(image=True)
    for learner in (whole, plain):
        learner._tried = True  # what is given cannot be given twice
    for _ in range(2):
        result = whole.update_from(replay, 2 * K + 1, batch_size=B)
        expected = plain.update_from(twin, 2 * K + 1, batch_size=B)
        torch.testing.assert_close(tuple(result), tuple(expected), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole.flat.data, plain.flat.data, rtol=1e-5, atol=1e-5)
    assert torch.equal(whole.generator.get_state(), plain.generator.get_state())


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "shape", "words"),
    [
        (4, (4,), r"random_shift = 4 moves images .* \[4\]; leave it out"),
        (1, (2, 8), r"random_shift = 1 moves images .* \[2, 8\]; leave it out"),
        (8, (4, 8, 9), "moves images of 8 x 9 out of sight"),
        (8, (1, 4, 9, 8), "moves images of 9 x 8 out of sight"),
    ],
)
def test_what_is_no_image_or_would_leave_its_frame_is_refused(pixels, shape, words):
    with pytest.raises(ConfigError, match=words):
        check_shift(pixels, shape)
    check_shift(0, shape)


def test_a_learner_refuses_it_with_its_first_batch():
    learner = make_learner(25)
    with pytest.raises(ConfigError, match="25 x 25 out of sight"):
        learner.update(batch(image=True))


def test_a_run_refuses_it_before_it_makes_anything(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"random_shift = 4 .* \[4\]"):
        train(Config(random_shift=4, run_dir=str(run)))
    assert not run.exists()
