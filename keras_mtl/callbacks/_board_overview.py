"""The first pictures of a dashboard: is a task starving, and how have the tasks come along.

TensorBoard smooths the lines of its charts, cuts off what it takes for outliers and has one color for a run. These
pictures have every value, a logarithmic axis where sizes differ, and a color and a name for each task.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl._colors import color

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

GROUP = "1 at a glance"  # sorts before all other tags, so that it is what opens
_WIDTH, _ROW, _GAP = 410, 30, 10  # the width of a card, so that TensorBoard does not scale it
_SHOWN = 20  # tasks
_LITTLE = 0.2  # of an equal part of the update
_STILL = 0.8  # of its first loss


def verdicts(
    tasks: Sequence[str], epochs: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[str, float | None, float | None]]:
    """Says of each task whether it learns.

    A task starves where it has less than a fifth of an equal part of the
    trunk's update and its loss is still above four fifths of that of the
    first epoch.

    Args:
        tasks: List of names.
        epochs: List of dicts, the logs of each epoch.

    Returns:
        Dict from task to a tuple: the verdict, `"starves"`, `"hardly fell"`
        or `"learns"`, or `"?"` where nothing is known yet; its part of the
        update and its loss relative to the first epoch's, or `None`.
    """
    last, found = epochs[-1], {}
    for task in tasks:
        first, now = epochs[0].get(f"{task}_loss", math.nan), last.get(f"{task}_loss", math.nan)
        relative = now / first if len(epochs) > 1 and first > 0 and math.isfinite(now) else None
        share = last.get(f"{task}_grad_share")
        share = share if share is not None and math.isfinite(share) else None
        said = "?"
        if relative is not None:
            still = relative > _STILL
            starves = still and share is not None and share < _LITTLE / len(tasks)
            said = "starves" if starves else "hardly fell" if still else "learns"
        found[task] = (said, share, relative)
    return found


def pictures(tasks: Collection[str], epochs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The pictures of an epoch.

    Args:
        tasks: List of names.
        epochs: List of dicts, the logs of each epoch so far.

    Returns:
        Dict from tag to an array of shape `(height, width, 3)`.
    """
    tasks = list(tasks)[:_SHOWN]
    found = {f"{GROUP}/1 is a task starving": _answer(tasks, epochs)}
    if len(epochs) < 2:
        return found
    losses = {task: _series(epochs, f"{task}_loss") for task in tasks}
    losses = {t: values / values[0] for t, values in losses.items() if values[0] > 0}
    weights = {task: _series(epochs, f"{task}_weight") for task in tasks}
    shares = {task: 100 * _series(epochs, f"{task}_grad_share") for task in tasks}
    charts = (
        ("2 losses", "loss / loss of the first epoch (log axis)", losses, True),
        ("3 share of the update", "part of the trunk's update, %", shares, False),
        ("4 weights", "task weight (log axis)", weights if _move(weights) else {}, True),
    )
    for name, title, series, log in charts:
        series = {task: v for task, v in series.items() if np.isfinite(v).any() and not (log and (v <= 0).any())}
        if series:
            found[f"{GROUP}/{name}"] = line_chart(title, series, {t: color(tasks.index(t)) for t in series}, log)
    return found


def _series(epochs: Sequence[Mapping[str, Any]], log: str) -> np.ndarray:
    return np.array([epoch.get(log, math.nan) for epoch in epochs], "float64")


def _move(weights: Mapping[str, np.ndarray]) -> bool:
    values = np.array(list(weights.values()))
    return np.isfinite(values).all() and np.ptp(values) > 1e-6 * np.abs(values).max()


def _answer(tasks: Sequence[str], epochs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """A row for each task: its color and name, its part of the update as a bar, its loss, the verdict."""
    from PIL import Image, ImageDraw

    found = verdicts(tasks, epochs)
    starving = [task for task, (said, *_) in found.items() if said == "starves"]
    still = [task for task, (said, *_) in found.items() if said == "hardly fell"]
    title = "Too early to say." if len(epochs) < 2 else "No task starves."
    if starving:
        title = f"Starving: {', '.join(starving)}."
    elif still:
        title = f"No task starves. Hardly fell: {', '.join(still)}."
    image = Image.new("RGB", (_WIDTH, 2 * _ROW + _ROW * len(tasks) + _GAP), "white")
    draw = ImageDraw.Draw(image)
    bad = "#b2182b" if starving else "black"
    draw.text((_GAP, _ROW / 2), _cut(title, _WIDTH - 2 * _GAP, 17), fill=bad, font=_font(17), anchor="lm")
    columns = (_GAP + 18, 146, 262, 335)
    for x, head in zip(columns, ("", "part of update", "loss/first", ""), strict=True):
        draw.text((x, 1.5 * _ROW), head, fill="#555555", font=_font(13), anchor="lm")
    for i, (task, (said, share, relative)) in enumerate(found.items()):
        y = 2 * _ROW + _ROW * (i + 0.5)
        draw.rectangle((_GAP, y - 6, _GAP + 12, y + 6), fill=color(i))
        draw.text((columns[0], y), _cut(task, 112, 15), fill="black", font=_font(15), anchor="lm")
        if share is not None:
            draw.rectangle((columns[1], y - 7, columns[1] + 70, y + 7), fill="#e8e8e8")
            draw.rectangle((columns[1], y - 7, columns[1] + 70 * min(1.0, max(0.0, share)), y + 7), fill=color(i))
            draw.text((columns[1] + 76, y), f"{100 * share:.0f} %", fill="black", font=_font(14), anchor="lm")
        else:
            draw.text((columns[1], y), "no monitor", fill="#888888", font=_font(13), anchor="lm")
        if relative is not None:
            draw.text((columns[2], y), f"{relative:.2g}", fill="black", font=_font(14), anchor="lm")
        shade = {"starves": "#b2182b", "learns": "#1a7a3c"}.get(said, "#555555")
        draw.text((columns[3], y), said, fill=shade, font=_font(15), anchor="lm")
    return np.asarray(image)


def line_chart(
    title: str, series: Mapping[str, np.ndarray], colors: Mapping[str, str], log: bool = False
) -> np.ndarray:
    """Lines of all values, with names at their ends.

    Args:
        title: String, with the unit.
        series: Dict from name to an array, one value for each epoch.
        colors: Dict from name to color.
        log: Boolean. Whether the axis is logarithmic. Defaults to `False`.

    Returns:
        Array of shape `(height, width, 3)` and dtype uint8.
    """
    from PIL import Image, ImageDraw

    high, left, right, top, bottom = 290, 50, 110, 34, 30
    image = Image.new("RGB", (_WIDTH, high), "white")
    draw = ImageDraw.Draw(image)
    values = np.concatenate(list(series.values()))
    values = values[np.isfinite(values)]
    low, up = (float(values.min()), float(values.max()))
    if log:
        low, up = math.log10(low), math.log10(up)
    margin = 0.05 * (up - low) or 0.5
    low, up = (low - margin if log else min(0.0, low)), up + margin
    length = max(map(len, series.values()))

    def place(step: int, value: float) -> tuple[float, float]:
        value = math.log10(value) if log else value
        x = left + (_WIDTH - left - right) * step / max(1, length - 1)
        return x, top + (high - top - bottom) * (up - value) / (up - low)

    draw.text((_GAP, 16), title, fill="black", font=_font(15), anchor="lm")
    for tick in _ticks(low, up, log):
        _, y = place(0, tick)
        draw.line((left, y, _WIDTH - right, y), fill="#dddddd")
        draw.text((left - 5, y), f"{tick:g}", fill="#444444", font=_font(12), anchor="rm")
    for step in sorted({0, (length - 1) // 2, length - 1}):
        text = f"epoch {step + 1}" if step == 0 else str(step + 1)
        anchor = "lm" if step == 0 else "mm"
        draw.text(
            (place(step, 10**low if log else low)[0], high - 14), text, fill="#444444", font=_font(12), anchor=anchor
        )
    ends = {}
    for name, line in series.items():
        points = [place(step, value) for step, value in enumerate(line) if math.isfinite(value)]
        draw.line(points, fill=colors[name], width=3, joint="curve")
        ends[name] = points[-1][1]
    for name, y in _apart(ends, top, high - bottom).items():
        text = _cut(name, right - 12, 14)
        draw.text((_WIDTH - right + 8, y), text, fill=colors[name], font=_font(14), anchor="lm")
    return np.asarray(image)


def _ticks(low: float, up: float, log: bool) -> list[float]:
    if log:
        steps = [10.0**k * m for k in range(math.floor(low), math.ceil(up) + 1) for m in (1, 2, 5)]
        inside = [tick for tick in steps if low <= math.log10(tick) <= up]
        powers = [tick for tick in inside if round(math.log10(tick), 9).is_integer()]
        return powers[:: -(-len(powers) // 7)] if len(powers) > 2 else inside
    step = 10.0 ** math.floor(math.log10(up - low))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if (up - low) / s <= 6)
    return [step * i for i in range(math.ceil(low / step), math.floor(up / step) + 1)]


def _apart(heights: Mapping[str, float], top: float, bottom: float) -> dict[str, float]:
    """Heights of names, moved so that none covers another."""
    order, moved, least = sorted(heights, key=heights.get), {}, min(16.0, (bottom - top) / max(1, len(heights)))  # type: ignore[arg-type]
    for i, name in enumerate(order):
        moved[name] = max(heights[name], top + least * i, moved[order[i - 1]] + least if i else -math.inf)
    over = max(0.0, moved[order[-1]] - bottom)
    for i, name in reversed(list(enumerate(order))):
        below = moved[order[i + 1]] - least if i + 1 < len(order) else bottom
        moved[name] = min(moved[name], below) if over else moved[name]
    return moved


def _cut(text: str, width: float, size: int) -> str:
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@functools.cache
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
