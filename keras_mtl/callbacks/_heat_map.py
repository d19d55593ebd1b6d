"""Heat maps as arrays of pixels, drawn with what TensorBoard installs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._types import Tensor

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

_RED, _WHITE, _BLUE = (178, 24, 43), (247, 247, 247), (33, 102, 172)
_MISSING = (225, 225, 225)
_FONT, _LINE, _GAP = 16, 19, 8
_LABELLED = 24  # more rows or columns than this have no names and no numbers


def heat_map(rows: Sequence[str], columns: Sequence[str], values: np.ndarray, much_is_bad: bool = False) -> np.ndarray:
    """Draws a matrix, with names and numbers unless it is large.

    TensorBoard shrinks pictures to the width of its cards, so there is nothing
    here but what has to be read. Matplotlib would take ten times as long.

    Args:
        rows: List of the rows' names.
        columns: List of the columns' names; a newline breaks one in two.
        values: Array of shape `(rows, columns)`; NaN where there is none. Blue
            is positive, red negative; the strongest color is the largest
            absolute value, or 1.
        much_is_bad: Boolean. Whether positive values are red and negative ones
            blue instead. Defaults to `False`.

    Returns:
        Array of shape `(height, width, 3)` and dtype uint8.
    """
    values = np.asarray(values, "float64")
    limit = max(1.0, float(np.abs(values[np.isfinite(values)]).max(initial=0.0)))
    colors = _colors(-values / limit if much_is_bad else values / limit)
    draw = _labelled if max(values.shape) <= _LABELLED else _plain
    return draw(rows, columns, values, colors)


def _labelled(rows: Sequence[str], columns: Sequence[str], values: Tensor, colors: np.ndarray) -> np.ndarray:
    from PIL import Image, ImageDraw

    texts = [[_number(value) for value in row] for row in values]
    widths = [_width(line) for text in (*columns, *(t for row in texts for t in row)) for line in text.split("\n")]
    cell, height = max(widths) + 12, 38
    left = _GAP + max(map(_width, rows)) + _GAP
    top = _GAP + _LINE * max(1 + name.count("\n") for name in columns) + 4
    image = Image.new("RGB", (left + cell * len(columns) + _GAP, top + height * len(rows) + _GAP), "white")
    image.paste(Image.fromarray(np.repeat(np.repeat(colors, height, axis=0), cell, axis=1)), (left, top))
    draw = ImageDraw.Draw(image)
    draw.fontmode = "L"
    for column, name in enumerate(columns):
        lines = name.split("\n")
        for i, line in enumerate(lines):
            y = top - 4 - _LINE * (len(lines) - i - 0.5)
            draw.text((left + (column + 0.5) * cell, y), line, fill="black", font=_font(), anchor="mm")
    for row, name in enumerate(rows):
        middle = top + (row + 0.5) * height
        draw.text((left - _GAP, middle), name, fill="black", font=_font(), anchor="rm")
        for column, text in enumerate(texts[row]):
            fill = "white" if colors[row, column].mean() < 140 else "black"
            draw.text((left + (column + 0.5) * cell, middle), text, fill=fill, font=_font(), anchor="mm")
    return np.asarray(image)


def _plain(rows: Sequence[str], columns: Sequence[str], values: Tensor, colors: np.ndarray) -> np.ndarray:
    """Colors alone, each at least a few pixels wide."""
    del rows, columns
    high, wide = (max(3, min(20, 400 // size)) for size in values.shape)
    return np.repeat(np.repeat(colors, high, axis=0), wide, axis=1)


def _colors(values: np.ndarray) -> np.ndarray:
    """Red, white and blue for -1, 0 and 1; grey for NaN."""
    white = np.array(_WHITE, "float64")
    end = np.where(values[..., None] < 0, np.array(_RED, "float64"), np.array(_BLUE, "float64"))
    strength = np.clip(np.abs(np.nan_to_num(values)), 0.0, 1.0)[..., None]
    mixed = np.where(np.isfinite(values)[..., None], white + strength * (end - white), np.array(_MISSING, "float64"))
    return mixed.round().astype("uint8")


def _number(value: float) -> str:
    if not np.isfinite(value):
        return ""
    return f"{value:.2f}".replace("-0.00", "0.00")


@functools.cache
def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(_FONT)


@functools.lru_cache(maxsize=4096)
def _width(text: str) -> int:
    return int(_font().getlength(text)) + 1
