"""Breakout on a grid, after MinAtar's, as frames of bytes: bricks, a ball, a paddle and lives."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor

from fastdqn.envs.native.base import NativeVectorEnv, State, check_count, check_size, index_below

CELLS = 21  # of the field, both ways
TOP = 1  # first row of the field; row 0 shows the lives
WALL_TOP, WALL_ROWS, WALL_COLUMNS = 4, 6, 7
BRICK = CELLS // WALL_COLUMNS  # cells across
LAUNCH = WALL_TOP + WALL_ROWS + 1  # row in which a ball appears
PADDLE = 3  # cells across
BOTTOM = CELLS - 1  # row of the paddle


class Breakout(NativeVectorEnv):
    """``fastdqn/Breakout-v0``: break bricks with a ball that must not pass the paddle.

    The field has 21 x 21 cells, the wall 6 x 7 bricks of three cells. The ball flies by one cell
    in both directions per step, and the paddle, three cells of the bottom row, moves left, stays or
    moves right by one. The ball bounces off walls, ceiling and bricks (+1 each, which go), and off
    the paddle: its left cell sends it to the left, its right cell to the right, and the middle
    leaves its sideways direction as it is. A ball that passes costs a life; another appears below
    the wall one step later, in a random column and direction. The episode is terminated with the
    last life. When no brick is left and the ball is below the wall, there is a new wall.

    Observations are uint8 [N, size, size]: the ball and the lives (cells of the top row) are 255,
    the paddle 200, bricks 80 to 160, the rest 0. Where the ball flies takes two frames to see.
    ``info["lives"]`` is int64 [N].

    Args:
        num_envs: Envs (N).
        size: Height and width of a frame in pixels, a multiple of 21.
        lives: Of an episode.
        max_episode_steps: Truncate an episode after so many steps.
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
        lives: int = 5,
        max_episode_steps: int = 10_000,
        device: torch.device | str = "cpu",
        compile: bool = False,
    ) -> None:
        check_size(size, CELLS)
        check_count("lives", lives, high=CELLS)
        limits: dict[str, tuple[float, float]] = {
            "bricks": (0, 1),
            "y": (TOP, BOTTOM),
            "x": (0, CELLS - 1),
            "dy": (-1, 1),
            "dx": (-1, 1),
            "paddle": (0, CELLS - PADDLE),
            "lives": (0, lives),
        }
        super().__init__(
            num_envs,
            Box(0, 255, (size, size), "uint8"),
            3,
            uniforms=3,
            limits=limits,
            max_episode_steps=max_episode_steps,
            device=device,
            compile=compile,
        )
        self.lives = lives
        self._pixels = size // CELLS
        self._bricks = torch.arange(WALL_ROWS * WALL_COLUMNS, device=self.device).unsqueeze(1)
        self._cells = torch.arange(CELLS, device=self.device)
        row, column = self._bricks // WALL_COLUMNS, self._bricks % WALL_COLUMNS
        self._shade = (160 - 14 * row - 10 * (column % 2)).to(torch.uint8)  # [42, 1]

    def initial(self, uniform: Tensor) -> State:
        """A whole wall, all lives, a ball, and the paddle anywhere."""
        paddle = index_below(uniform[2], CELLS - PADDLE + 1)
        wall = (WALL_ROWS * WALL_COLUMNS, self.num_envs)
        return {
            "bricks": torch.ones(wall, dtype=torch.bool, device=self.device),
            **self._launch(uniform),
            "paddle": paddle,
            "lives": torch.full_like(paddle, self.lives),
        }

    def _launch(self, uniform: Tensor) -> State:
        """A new ball, on its way down."""
        x = index_below(uniform[0], CELLS)
        down = torch.ones_like(x)
        return {
            "y": torch.full_like(x, LAUNCH),
            "x": x,
            "dy": down,
            "dx": torch.where(uniform[1] < 0.5, -down, down),
        }

    def advance(
        self, state: State, actions: Tensor, uniform: Tensor
    ) -> tuple[State, Tensor, Tensor]:
        """Move the paddle, then the ball; where a ball was lost, launch another."""
        paddle = (state["paddle"] + actions - 1).clamp(0, CELLS - PADDLE)
        y, x, dy, dx = (state[name] for name in ("y", "x", "dy", "dx"))
        lost = y == BOTTOM  # one step ago: what follows of that ball touches nothing
        # The sides: the ball stays in its column and turns.
        beside = (x + dx < 0) | (x + dx >= CELLS)
        dx = torch.where(beside, -dx, dx)
        new_x = torch.where(beside, x, x + dx)
        # The ceiling: it stays in its row and turns. So it does at bricks and paddle.
        above = y + dy < TOP
        new_y = torch.where(above, y, y + dy)
        column = torch.div(new_x, BRICK, rounding_mode="floor")
        touched = self._bricks == (new_y - WALL_TOP) * WALL_COLUMNS + column  # [42, N]
        hits = touched & state["bricks"]
        hit = hits.any(0)
        bricks = state["bricks"] & ~hits
        reached = new_y == BOTTOM
        place = new_x - paddle
        caught = reached & (place >= 0) & (place < PADDLE)
        dx = torch.where(caught & (place == 0), -1, dx)
        dx = torch.where(caught & (place == PADDLE - 1), 1, dx)
        dy = torch.where(above | hit | caught, -dy, dy)
        new_y = torch.where(hit | caught, y, new_y)
        bricks = bricks | (~bricks.any(0) & (new_y >= WALL_TOP + WALL_ROWS))
        lives = state["lives"] - (reached & ~caught).to(torch.int64)
        ball = {"y": new_y, "x": new_x, "dy": dy, "dx": dx}
        new = self._launch(uniform)
        following = {name: torch.where(lost, new[name], ball[name]) for name in ball}
        following.update(bricks=bricks, paddle=paddle, lives=lives)
        return following, hit.to(torch.float32), lives == 0

    def observe(self, state: State, uniform: Tensor) -> Tensor:
        """Frames uint8 [N, size, size]."""
        wall = (state["bricks"] * self._shade).T.reshape(-1, WALL_ROWS, WALL_COLUMNS, 1)
        wall = wall.expand(-1, -1, -1, BRICK).flatten(2)
        grid = wall.new_zeros((self.num_envs, CELLS, CELLS))
        grid[:, WALL_TOP : WALL_TOP + WALL_ROWS] = wall
        y, x, paddle, lives = (state[name].unsqueeze(1) for name in ("y", "x", "paddle", "lives"))
        grid[:, 0] = (self._cells < lives) * 255
        grid[:, BOTTOM] = ((self._cells >= paddle) & (self._cells < paddle + PADDLE)) * 200
        grid = grid.flatten(1).scatter(1, y * CELLS + x, 255).unflatten(1, (CELLS, CELLS))
        # First across, then down: the larger copy is then one of whole rows.
        grid = grid.unsqueeze(3).expand(-1, -1, -1, self._pixels).flatten(2)
        return grid.unsqueeze(2).expand(-1, -1, self._pixels, -1).flatten(1, 2)

    def info(self, state: State) -> dict[str, Any]:
        """Lives left."""
        return {"lives": state["lives"]}
