"""Pictures of what a network looks at: maps over frames, bars for vectors."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastdqn.plotting import style
from fastdqn.plotting.saliency_episode import Moments

_RED, _BLUE = np.array([213, 94, 0]) / 255, np.array([0, 114, 178]) / 255  # vermilion, blue
_FULL = 99.5  # percentile of a map that is drawn in full colour
_MOST_BARS = 12


def draw_frames(
    moments: Moments,
    path: Path,
    *,
    title: str,
    actions: Sequence[str],
    frame_stack: int | None = None,
) -> Path:
    """A column per moment: the frame, the two maps over it, and Q of every action.

    Args:
        moments: With perturbation maps.
        path: Of the picture.
        title: Its heading.
        actions: Names, [A].
        frame_stack: S, where observations are stacks; the newest frame is drawn.

    Raises:
        OSError: Where the picture cannot be written.
    """
    count = len(moments.step)
    shown = newest_frame(moments.observation, frame_stack)
    pick = moments.gradient[moments.action, np.arange(count)]
    gradient = np.abs(pick).max(axis=tuple(range(1, pick.ndim - 2)))
    assert moments.perturbation is not None
    tall = shown.shape[1] / shown.shape[2]
    column = 1.9 if count > 3 else 2.6
    width = max(5.0, column * count + 1.2)
    bars = 0.16 * len(actions) + 0.5
    figure = style.new_figure(width, 3 * tall * column + bars + 1.5, dpi=110)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", parse_math=False)
    axes = figure.subplots(
        4, count, squeeze=False, height_ratios=[tall * column] * 3 + [bars], sharex="row"
    )
    for row in axes[:3]:
        for panel in row:
            panel.set_xticks([])
            panel.set_yticks([])
            panel.spines[:].set_visible(False)
    names = ("newest frame", "|dQ(s,a)/ds|,\nlargest of the stack", "blurring it\nchanges Q")
    if frame_stack is None:
        names = ("frame", "|dQ(s,a)/ds|", names[2])
    for row, name in zip(axes[:3], names, strict=True):
        row[0].set_ylabel(name, fontsize=9)
    for k in range(count):
        chosen = int(moments.action[k])
        axes[0, k].set_title(
            f"step {moments.step[k]}: {actions[chosen]}\nQ = {moments.q[k, chosen]:.3g}", fontsize=9
        )
        axes[0, k].imshow(shown[k], cmap="gray", vmin=0, vmax=1)
        axes[1, k].imshow(overlay(shown[k], gradient[k], _BLUE))
        axes[2, k].imshow(overlay(shown[k], moments.perturbation[k], _RED))
        _q_bars(axes[3, k], moments.q[k], actions if k == 0 else None)
    figure.supxlabel(
        textwrap.fill(
            "Each map in full colour at its own largest values. Blue: a change of the pixels there "
            "moves Q of the greedy action. Orange: Q changes when what is there is blurred away. "
            "Coloured bar: the action taken.",
            int(14 * width),
        ),
        fontsize=8.5,
        color=style.GREY,
        x=0.01,
        ha="left",
    )
    return style.save(figure, path)


def draw_vectors(
    moments: Moments,
    every: Moments,
    path: Path,
    *,
    title: str,
    actions: Sequence[str],
    variables: Sequence[str],
) -> Path:
    """Bars of how Q of every action changes with each variable, at some moments and on average.

    Variables have different units. So a gradient is multiplied with the standard deviation of its
    variable over the episode: how much Q changes when the variable moves as far as it usually
    does.

    Args:
        moments: To draw one by one.
        every: The whole episode, for the deviations and the average.
        path: Of the picture.
        title: Its heading.
        actions: Names, [A].
        variables: Names of the flattened observation's entries, [D].

    Raises:
        OSError: Where the picture cannot be written.
    """
    spread = every.observation.reshape(len(every.step), -1).std(axis=0)
    change, average = scaled(moments, spread), np.abs(scaled(every, spread)).mean(axis=1)
    order = np.argsort(-average.max(axis=0), kind="stable")[:_MOST_BARS]
    order = np.sort(order)  # of many variables those that matter, in their own order
    names = [variables[index] for index in order]
    values = moments.observation.reshape(len(moments.step), -1)

    count = len(moments.step)
    rows = -(-count // 4)
    columns = -(-count // rows)
    tall = max(1.5, 0.34 * len(names) + 0.6)
    figure = style.new_figure(max(9.5, 3.6 + 2.35 * columns), rows * tall + 1.6, dpi=110)
    spec = figure.add_gridspec(rows, columns + 1, width_ratios=[1.35] + [1.0] * columns)
    main = style.plain_axes(figure.add_subplot(spec[:, 0]))
    handles = _grouped_bars(main, average[:, order], names)
    main.set_title("mean size over the episode", loc="left", fontsize=10)
    main.tick_params(labelsize=10)
    for k in range(count):
        axes = style.plain_axes(figure.add_subplot(spec[k // columns, 1 + k % columns]))
        labels = [f"{values[k, index]:.2g}" for index in order]
        _grouped_bars(axes, change[:, k, order], labels)
        axes.axvline(0, color="#333333", linewidth=0.8)
        # A scale of its own: one step before a fall would leave the others blank.
        limit = 1.08 * max(float(np.abs(change[:, k]).max()), 1e-12)
        axes.set_xlim(-limit, limit)
        chosen = int(moments.action[k])
        q = ", ".join(f"{value:.4g}" for value in moments.q[k])
        short = q if len(actions) <= 4 else f"{moments.q[k, chosen]:.4g}"
        axes.set_title(
            f"step {moments.step[k]}: {actions[chosen]}\nQ = {short}", loc="left", fontsize=9
        )
        axes.tick_params(labelsize=8)
    figure.legend(
        handles,
        [f"Q of {name}" for name in actions],
        title=title,  # of the legend: a suptitle would lie over it
        alignment="left",
        title_fontproperties={"size": 11},
        loc="outside upper left",
        ncols=min(6, len(actions)),
        frameon=False,
        fontsize=9,
    )
    figure.supxlabel(
        "Change of Q(s,a) per standard deviation of the variable in this episode: dQ(s,a)/ds "
        "times that deviation. Each step has a scale of its own; beside its bars: the variable's "
        "value there.",
        fontsize=8.5,
        color=style.GREY,
        x=0.01,
        ha="left",
    )
    return style.save(figure, path)


def scaled(moments: Moments, spread: np.ndarray) -> np.ndarray:
    """dQ(s, a)/ds times the standard deviation of each variable, [A, K, D]."""
    actions, count = moments.gradient.shape[:2]
    return moments.gradient.reshape(actions, count, -1) * spread


def newest_frame(observation: np.ndarray, frame_stack: int | None) -> np.ndarray:
    """Gray pictures [K, H, W] in 0..1 of observations [K, (S), (C), H, W]; colours are averaged."""
    if frame_stack is not None:
        observation = observation[:, -1]
    gray = observation.astype(np.float64)
    while gray.ndim > 3:
        gray = gray.mean(axis=1)
    if observation.dtype == np.uint8:
        return gray / 255
    low, high = gray.min(), gray.max()
    return (gray - low) / (high - low) if high > low else np.zeros_like(gray)


def overlay(frame: np.ndarray, saliency: np.ndarray, color: np.ndarray) -> np.ndarray:
    """A map in one colour over a pale gray picture, RGB [H, W, 3] in 0..1.

    Args:
        frame: [H, W] in 0..1.
        saliency: [H, W], >= 0; a constant 0 leaves the picture gray.
        color: RGB in 0..1.
    """
    pale = np.repeat((0.35 + 0.6 * frame)[..., None], 3, axis=2)
    full = np.percentile(saliency, _FULL)
    full = full if full > 0 else saliency.max()  # of a map that is 0 nearly everywhere
    strength = np.clip(saliency / full, 0, 1)[..., None] if full > 0 else np.zeros((1, 1, 1))
    return pale * (1 - strength) + color * strength


def _q_bars(axes: Any, q: np.ndarray, names: Sequence[str] | None) -> None:
    """One bar per action from the lowest Q on, for only differences decide."""
    style.plain_axes(axes, grid=False)
    best = int(q.argmax())
    colors = [style.ORANGE if action == best else "#b5b5b5" for action in range(len(q))]
    axes.barh(range(len(q)), q - q.min(), color=colors, height=0.7)
    axes.set_ylim(len(q) - 0.5, -0.5)
    axes.set_yticks(range(len(q)), names if names is not None else [""] * len(q), fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("Q above the lowest", fontsize=8)


def _grouped_bars(axes: Any, values: np.ndarray, names: Sequence[str]) -> list[Any]:
    """Horizontal bars [A, D]: a group per variable, a colour per action."""
    actions, variables = values.shape
    height = 0.8 / actions
    handles = []
    for action in range(actions):
        at = np.arange(variables) - 0.4 + (action + 0.5) * height
        color = style.PALETTE[action % len(style.PALETTE)]
        handles.append(axes.barh(at, values[action], height=height, color=color))
    axes.set_yticks(range(variables), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(variables - 0.5, -0.5)
    return handles
