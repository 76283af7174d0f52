"""Advice can be followed: what a message proposes is there, and gets past what it was about."""

import pytest
from helpers.advice import messages, messages_of
from helpers.advice_checks import options_of, wrong_in

from fastdqn.config.checks import ELSEWHERE

SENTENCES = messages()
TO_BE_MENDED = {
    # Temporary: written anew elsewhere.
    "networks/spec.py: use 512",
}


def test_every_message_can_be_followed():
    """A new message that proposes something comes here by itself.

    What it names must be there: a command, a flag, a field and its value, an extra, an id, a class.
    What names nothing stands in PLAIN of advice_checks; whoever adds to that has tried it.
    """
    wrong = [(message, what) for message in SENTENCES for what in wrong_in(message)]
    left = [f"{message}\n    -> {what}" for message, what in wrong
            if f"{message.path}: {what}" not in TO_BE_MENDED]  # fmt: skip
    assert not left, "\n".join(["cannot be followed, or is not known how:", *left])


def test_most_messages_are_seen():
    proposing = [message for message in SENTENCES if message.clauses]
    assert len(proposing) > 150
    assert len({message.path for message in proposing}) > 45


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("raise ValueError('x is wrong; use --no-such-flag.')", "--no-such-flag"),
        ("warn(f'{x} is slow; run \\'fastdqn trian\\'.')", "fastdqn trian"),
        ("E(f'{x} is not there; pip install \\'fastdqn[gpu]\\'.')", "gpu"),
        ("E('no; wrap it in gymnasium.wrappers.FrameStack.')", "gymnasium.wrappers.FrameStack"),
        ("E('no; use AutoresetMode.SAME.')", "AutoresetMode.SAME"),
        ("E('no; use loss = \\'hubert\\'.')", "loss = 'hubert'"),
        ("E('no; use num_envs = 0.')", "num_envs = 0"),
        ("E('no; set no_such_field, or leave it out.')", "no_such_field"),
        ("refuse('device', 'is none; use auto or gpu 7')", "use auto or gpu 7"),
        ("refuse('mode', 'is none; use auto or fast')", "mode = fast"),
        ("E('no; use \\'ALE/Pnog-v5\\'.')", "ALE/Pnog-v5"),
        ("E('no; call fastdqn.trian(config).')", "fastdqn.trian"),
        ("E('no; call fastdqn.train(config, env=env).')", "fastdqn.train(config, env=env)"),
        ("E('no; call rest() first.')", "rest()"),
        ("TABLE = {'x': 'is wrong; jiggle it, or use a smaller one'}", "use a smaller one"),
    ],
)
def test_a_proposal_that_cannot_be_followed_is_found(source, what):
    assert [found for m in messages_of(source, "x.py") for found in wrong_in(m)] == [what]


def test_names_of_other_libraries_lead_to_options_of_ours():
    for name in ELSEWHERE.values():
        assert f"--{name.replace('_', '-')}" in options_of("train")
