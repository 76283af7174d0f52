"""A network that takes random numbers, and an objective that wants its own for each forward."""

import torch
from torch import nn

from fastdqn.learning.objectives import Forward
from fastdqn.networks.draws import Draw

S, TARGET, CHOICE, AGAIN = (
    Forward("online", "s"), Forward("target", "s2"), Forward("online", "s2", 1),
    Forward("target", "s", 7),
)  # fmt: skip


class RandomQ(nn.Module):
    """Features scaled by uniform numbers of each sample and shifted by normal ones of the batch."""

    def __init__(self, inputs, actions, hidden=8):
        super().__init__()
        self.body, self.last = nn.Linear(inputs, hidden), nn.Linear(hidden, actions)

    def random_shapes(self, batch_size):
        hidden = self.body.out_features
        return {"scale": Draw("uniform", (batch_size, hidden)), "shift": Draw("normal", (hidden,))}

    def forward(self, observation, randoms=None):
        x = torch.relu(self.body(observation.flatten(1)))
        if randoms is not None:
            x = x * randoms["scale"] + 0.1 * randoms["shift"]
        return self.last(x)


class FourForwards:
    """Four forwards and their random numbers in one loss, with a priority that is not |td|."""

    forwards = (S, TARGET, CHOICE, AGAIN)

    def __call__(self, outputs, batch, randoms):
        best = outputs[CHOICE].argmax(1, keepdim=True)
        following = outputs[TARGET].gather(1, best).squeeze(1)
        target = batch.reward + batch.discount * following + 0.1 * outputs.q(AGAIN).mean(1)
        target = target + randoms[S]["scale"].mean(1) if randoms else target
        td = outputs[S].gather(1, batch.action.unsqueeze(1)).squeeze(1) - target
        return td.square() + 0.5 * td.abs(), td, td.detach().square() + 1.0
