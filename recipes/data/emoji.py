"""Emoji: what they look like, what they are called, and of which group and subgroup they are.

Pictures are from the font NotoColorEmoji (Debian's package fonts-noto-color-emoji, SIL Open Font License), names and
groups from Unicode's emoji-test.txt (package unicode-data). Only emoji of one code point count, so that no two differ
by the color of skin alone.
"""

import io
from pathlib import Path

import numpy as np

from .files import CACHE, cached

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
TABLE = Path("/usr/share/unicode/emoji/emoji-test.txt")
LEFT_OUT = ("Component", "Flags")  # five flags are of one code point
RARE = 10  # subgroups of fewer are not labelled
NOT_LABELLED = -1


def names_and_groups(lines):
    """Yields `(code point, name, group, subgroup)` of the emoji of one code point."""
    group = subgroup = None
    for line in lines:
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ").strip()
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ").strip()
        elif "; fully-qualified" in line and group not in LEFT_OUT:
            codes, _, comment = line.partition(";")
            points = [int(code, 16) for code in codes.split() if code != "FE0F"]  # that one says: in color
            if len(points) == 1:
                _, _, name = comment.partition("#")[2].strip().split(" ", maxsplit=2)  # the emoji, version, name
                yield points[0], name, group, subgroup


def draw(points, size, font=FONT):
    """Pictures `(n, size, size, 3)` of code points, on white, from 0 to 1; None for what the font lacks."""
    from fontTools.ttLib import TTFont
    from PIL import Image

    with TTFont(font) as opened:
        glyphs, bitmaps = opened.getBestCmap(), opened["CBDT"].strikeData[0]
        for point in points:
            if glyphs.get(point) not in bitmaps:
                yield None
                continue
            drawn = Image.open(io.BytesIO(bitmaps[glyphs[point]].imageData)).convert("RGBA")
            white = Image.new("RGBA", drawn.size, "white")
            picture = Image.alpha_composite(white, drawn).convert("RGB").resize((size, size), Image.Resampling.BOX)
            yield np.asarray(picture, "float32") / 255


def number(rows, pictures):
    """Arrays of the emoji: groups and subgroups as numbers, -1 for a subgroup that is rare."""
    kept = [(row, picture) for row, picture in zip(rows, pictures, strict=True) if picture is not None]
    names, groups, subgroups = (np.array(column) for column in list(zip(*(row for row, _ in kept), strict=True))[1:])
    called, counts = np.unique(subgroups, return_counts=True)
    called = called[counts >= RARE]
    known = {subgroup: i for i, subgroup in enumerate(called)}
    return {
        "pictures": np.stack([picture for _, picture in kept]),
        "names": names,
        "groups": np.unique(groups),
        "subgroups": called,
        "group": np.unique(groups, return_inverse=True)[1].astype("int32"),
        "subgroup": np.array([known.get(subgroup, NOT_LABELLED) for subgroup in subgroups], "int32"),
    }


def load(size=32, cache=CACHE):
    """The emoji.

    Args:
        size: Integer. Height and width of the pictures. Defaults to 32.
        cache: `pathlib.Path`. The folder that keeps what was read.

    Returns:
        Dict of arrays: `"pictures"` `(n, size, size, 3)`, `"names"`, and for the tasks `"group"` and `"subgroup"` the
        numbers of their classes in `"groups"` and `"subgroups"`.
    """

    def read():
        for path, package in ((FONT, "fonts-noto-color-emoji"), (TABLE, "unicode-data")):
            if not path.exists():
                raise FileNotFoundError(f"This recipe reads {path}: apt-get install {package}")
        rows = list(names_and_groups(TABLE.read_text(encoding="utf-8").splitlines()))
        return number(rows, list(draw([row[0] for row in rows], size)))

    return cached(cache, f"emoji_{size}", read)
