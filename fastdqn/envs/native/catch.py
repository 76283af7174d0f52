"""Catch: balls fall, a paddle is there in time or not. After bsuite's, as frames of bytes."""

from __future__ import annotations

import torch
from gymnasium.spaces import Box
from torch import Tensor

from fastdqn.envs.native.base import NativeVectorEnv, State, check_count, check_size, index_below

CELLS = 12  # of the board, both ways


class Catch(NativeVectorEnv):
    """``fastdqn/Catch-v0``: be below the ball when it reaches the bottom row.

    The board has 12 x 12 cells. A ball starts in a random column of the top row and falls by one
    row per step; the paddle, one cell of the bottom row, moves left, stays or moves right. In the
    bottom row the ball brings +1 where the paddle is and -1 elsewhere; with the next step another
    ball is at the top. The episode is terminated with the last ball. As 11 steps suffice to go
    everywhere, the best score is the number of balls; random play catches one ball in 12.

    Observations are uint8 [N, size, size], ball and paddle 255 on 0, and tell all there is to know.

    Args:
        num_envs: Envs (N).
        size: Height and width of a frame in pixels, a multiple of 12.
        balls: Of an episode.
        max_episode_steps: Truncate an episode after so many steps; None: never.
        device: Where everything lives.
        compile: Compile the step.

    Raises:
        EnvError: For options that are out of range.
    """

    compiles_observations = False

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 84,
        balls: int = 10,
        max_episode_steps: int | None = None,
        device: torch.device | str = "cpu",
        compile: bool = False,
    ) -> None:
        check_size(size, CELLS)
        check_count("balls", balls, high=10**6)
        cell = (0, CELLS - 1)
        super().__init__(
            num_envs,
            Box(0, 255, (size, size), "uint8"),
            3,
            uniforms=2,
            limits={"row": cell, "column": cell, "paddle": cell, "balls": (0, balls)},
            max_episode_steps=CELLS * balls if max_episode_steps is None else max_episode_steps,
            device=device,
            compile=compile,
        )
        self.balls = balls
        self._pixels = pixels = size // CELLS
        ground = torch.zeros((CELLS, CELLS, size, size), dtype=torch.uint8, device=self.device)
        for row in range(CELLS):
            for column in range(CELLS):
                y, x = row * pixels, column * pixels
                ground[row, column, y : y + pixels, x : x + pixels] = 255
        self._with_ball = ground.flatten(0, 1)  # [row * 12 + column, H, W]
        self._paddles = ground[-1, :, -pixels:].clone()  # [column, pixels, W]

    def initial(self, uniform: Tensor) -> State:
        """A ball at the top and the paddle anywhere."""
        column, paddle = index_below(uniform, CELLS)
        none = torch.zeros_like(column)
        return {"row": none, "column": column, "paddle": paddle, "balls": none}

    def advance(
        self, state: State, actions: Tensor, uniform: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        """Move the paddle, then the ball."""
        paddle = (state["paddle"] + actions - 1).clamp(0, CELLS - 1)
        landed = state["row"] == CELLS - 1  # one step ago: time for the next ball
        row = (state["row"] + 1).masked_fill(landed, 0)
        column = torch.where(landed, index_below(uniform[0], CELLS), state["column"])
        lands = row == CELLS - 1
        reward = torch.where(column == paddle, 1.0, -1.0).masked_fill(~lands, 0.0)
        balls = state["balls"] + lands
        following = {"row": row, "column": column, "paddle": paddle, "balls": balls}
        return following, reward, balls == self.balls

    def observe(self, state: State, uniform: Tensor) -> Tensor:
        """Frames uint8 [N, size, size]."""
        frames = self._with_ball.index_select(0, state["row"] * CELLS + state["column"])
        frames[:, -self._pixels :] |= self._paddles.index_select(0, state["paddle"])
        return frames
