"""Gymnasium's picture of CartPole, cropped around the cart and made small, for N carts at once.

The picture depends on the angle of the pole and on where the cart stands in the crop, no more.
So it is drawn once for each of 257 angles, and a frame is looked up.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

HEIGHT, WIDTH = 40, 90

# Of Gymnasium, in pixels of its screen of 600 x 400; y counts from the bottom.
_SCREEN_WIDTH, _SCREEN_HEIGHT = 600, 400
_PIXELS_PER_METRE = 125.0
_CART_Y, _CART_WIDTH, _CART_HEIGHT = 100, 50, 30
_AXLE_Y, _POLE_WIDTH, _POLE_LENGTH = 107, 10, 125
_BLACK, _POLE, _AXLE = (0, 0, 0), (202, 152, 101), (129, 132, 203)
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601

# Of the crop: rows 40 to 80 %, 60 % of the width; each pixel of a frame is the mean of 4 x 4.
_TOP, _CROP_WIDTH, _CELL = 160, 360, 4

_ANGLES = 257
_MAX_ANGLE = 0.42  # rad; an episode ends at 0.21, after at most one step beyond it
_REACH = 64  # pixels from the cart within which the pole lies, at such angles
_MARGIN = 8  # pixels that the cart may be beyond the edge of the screen in its last step
_ORIGIN = _CROP_WIDTH + _MARGIN + _CELL  # of the cart on the canvas over which the crop slides


class CartPoleScreen:
    """Frames of carts and poles, equal to Gymnasium's but for the rounding of the pole's corners.

    Angles are rounded to 1/305 rad, which is 0.4 pixels of the large screen at the pole's tip.

    Args:
        gray: Luminance instead of RGB.
        device: Where the frames are made.
    """

    def __init__(self, *, gray: bool = False, device: torch.device | str = "cpu") -> None:
        canvas = _canvas(gray, torch.device(device))
        alignments, angles, channels, _, columns = canvas.shape
        # Rows of 90 pixels that begin anywhere, as a view: they are copied whole, which is several
        # times as fast as an index for every pixel.
        self._runs = canvas.flatten().unfold(0, WIDTH, 1)
        self._lines = torch.arange(channels * HEIGHT, device=canvas.device) * columns
        self._picture = channels * HEIGHT * columns  # pixels from one angle to the next
        # Where the crop begins, at the middle angle, for each place of the cart on the screen.
        cart = torch.arange(-_MARGIN, _SCREEN_WIDTH + _MARGIN + 1, device=canvas.device)
        left = (cart - _CROP_WIDTH // 2).clamp(0, _SCREEN_WIDTH - _CROP_WIDTH)
        start = _ORIGIN - (cart - left)
        picture = start % alignments * angles + angles // 2
        self._begin = picture * self._picture + start // _CELL
        self._shape = (HEIGHT, WIDTH) if gray else (3, HEIGHT, WIDTH)

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        """uint8 [N, 3, 40, 90], or [N, 40, 90] if gray.

        Args:
            x: Position of the carts [N], m.
            theta: Angle of the poles [N], rad, positive to the right.
        """
        cart = (x * _PIXELS_PER_METRE).add_(_SCREEN_WIDTH / 2)
        cart = cart.clamp_(-_MARGIN, _SCREEN_WIDTH + _MARGIN).to(torch.int64)  # toward zero
        angle = theta.clamp(-_MAX_ANGLE, _MAX_ANGLE).mul_((_ANGLES - 1) / (2 * _MAX_ANGLE))
        angle = angle.round_().to(torch.int64).mul_(self._picture)
        begin = self._begin.index_select(0, cart.add_(_MARGIN)).add_(angle)
        runs = (begin.unsqueeze(1) + self._lines).flatten()
        return self._runs.index_select(0, runs).view(-1, *self._shape)


@functools.lru_cache(maxsize=2)
def _canvas(gray: bool, device: torch.device) -> Tensor:
    """uint8 [4, angles, channels, 40, columns]: the strip of the screen, wide enough to crop from.

    Column c of alignment a covers the pixels from a + 4 c on; the cart is at ``_ORIGIN``.
    """
    near = _draw_near_cart(device)  # [angles, 3, rows, pixels]
    if gray:
        weight = torch.tensor(_LUMINANCE, device=device).view(3, 1, 1)
        near = (near * weight).sum(1, keepdim=True)
    columns = (_ORIGIN + _MARGIN) // _CELL + WIDTH  # for the rightmost place of the crop
    begin = (_ORIGIN - _REACH) // _CELL  # column from which ``near`` is pasted
    canvas = torch.empty(
        (_CELL, len(near), near.shape[1], HEIGHT, columns), dtype=torch.uint8, device=device
    )
    for alignment in range(_CELL):
        pixels = near[..., alignment : alignment + 2 * _REACH]
        small = pixels.unflatten(-1, (-1, _CELL)).unflatten(-3, (-1, _CELL)).mean((-3, -1))
        small = small.round().to(torch.uint8)
        canvas[alignment] = small[..., :1]  # the ground, where neither cart nor pole is
        canvas[alignment, ..., begin : begin + small.shape[-1]] = small
    return canvas


def _draw_near_cart(device: torch.device) -> Tensor:
    """float32 [angles, 3, 160, 132]: large pixels from 64 to the left of the cart on, 0..255."""
    theta = torch.linspace(-_MAX_ANGLE, _MAX_ANGLE, _ANGLES, device=device).view(-1, 1, 1)
    y = (_SCREEN_HEIGHT - 1 - _TOP) - torch.arange(HEIGHT * _CELL, device=device).view(-1, 1)
    x = torch.arange(-_REACH, _REACH + _CELL, device=device)
    cart = (x.abs() <= _CART_WIDTH // 2) & ((y - _CART_Y).abs() <= _CART_HEIGHT // 2)
    # Along and across the pole, seen from the axle; a pixel at its edge is covered in part.
    across = x * theta.cos() - (y - _AXLE_Y) * theta.sin()
    along = x * theta.sin() + (y - _AXLE_Y) * theta.cos()
    half = _POLE_WIDTH / 2
    pole = (half + 1 - across.abs()).clamp(0, 1)
    pole = pole * (_POLE_LENGTH - half + 1 - along).clamp(0, 1) * (along + half + 1).clamp(0, 1)
    axle = x**2 + (y - _AXLE_Y) ** 2 <= (half + 0.5) ** 2
    picture = torch.full((3, 1, 1), 255.0, device=device)
    # In Gymnasium's order; its last line runs over everything.
    for cover, colour in ((cart, _BLACK), (pole, _POLE), (axle, _AXLE), (y == _CART_Y, _BLACK)):
        paint = torch.tensor(colour, dtype=torch.float32, device=device).view(3, 1, 1)
        cover = cover.float().unsqueeze(-3)
        picture = picture + cover * (paint - picture)
    return picture.expand(_ANGLES, 3, HEIGHT * _CELL, 2 * _REACH + _CELL)
