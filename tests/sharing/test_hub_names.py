"""Names on the Hub: what is one, and what is not."""

import pytest
from huggingface_hub.utils import HFValidationError, validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from fastdqn.errors import ConfigError
from fastdqn.sharing.hub_client import check_repo, parse_address


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf:alice/cart", ("alice/cart", None)),
        ("hf:a-club/CartPole-v1.dqn_2", ("a-club/CartPole-v1.dqn_2", None)),
        ("hf:alice/cart@v1.0", ("alice/cart", "v1.0")),
        ("hf:alice/cart@refs/pr/1", ("alice/cart", "refs/pr/1")),
    ],
)
def test_addresses(address, parts):
    assert parse_address(address) == parts


@pytest.mark.parametrize(
    "address",
    ["hf:", "hf:alice", "hf:alice/", "hf:/cart", "hf:a/b/c", "hf:../cart", "hf:alice/..",
     "hf:alice/ca--rt", "hf:alice/cart.git", "hf:alice/-cart", "hf:alice/cart-", "hf:al ice/cart",
     "hf:alice/cart\n", "hf:alice/" + "x" * 96, "hf:alice/cart@", "hf:alice/cart@../..",
     "hf:alice/cart@/etc", "hf:alice/cart@a b"],
)  # fmt: skip
def test_what_is_none_is_refused(address):
    with pytest.raises(ConfigError, match=r"is no name on the Hub|names no revision"):
        parse_address(address)


@given(st.text(st.sampled_from("aB9-_./"), max_size=12))
def test_whatever_passes_is_a_name_to_the_client(name):
    try:
        check_repo(name, "name")
    except ConfigError:
        return
    try:
        validate_repo_id(name)
    except HFValidationError:
        pytest.fail(name)
    assert name.count("/") == 1
