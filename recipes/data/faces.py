"""Drawn faces with labels by construction: 5 landmarks and 13 attributes.

Faces are put together at random from the parts of the package python-avatars (avataaars by P. Stanley, "free for
personal and commercial use"), posed at random, and rendered by the package resvg-py. That takes a minute or two, once;
the pictures are then kept in runs/cache/.
"""

import concurrent.futures
import io
import math
import multiprocessing
import re

import numpy as np
from rich.progress import track

from .arrays import parts_of, smaller
from .files import CACHE, cached, package_spec

SIDE = 64
SPLITS = {"train": 6500, "validation": 1000, "test": 1500}
FEW = {"train": 400, "validation": 100, "test": 100}  # for quick runs
LEFT, TOP, SHOWN = 53.0, 38.0, 158.0  # the square of the drawing that is shown
CENTER = (132.0, 120.0)  # faces are turned and scaled around it
# In the drawing, before it is posed: the eyes, the nose and the corners of the mouth.
LANDMARKS = np.array([(106, 112), (158, 112), (132, 132), (114, 152), (150, 152)], "float64")
# Attribute: the enumeration of python-avatars whose members are the classes, or the names of two or three classes.
ATTRIBUTES = {
    "skin": "SkinColor",
    "glasses": ("without", "with"),
    "smile": ("without", "with"),
    "mouth": "MouthType",
    "eyes": "EyeType",
    "eyebrows": "EyebrowType",
    "beard": ("without", "with"),
    "beard_type": "FacialHairType",
    "hat": ("without", "with"),
    "hair_color": "HairColor",
    "clothing": "ClothingType",
    "clothing_color": "ClothingColor",
    "pose": ("to the left", "upright", "to the right"),
}
SMILES = ("SMILE", "BIG_SMILE", "TWINKLE", "DEFAULT")
NOT_GLASSES = ("NONE", "EYEPATCH")
# They hide the face, or have no place for glasses or beards.
NOT_TOPS = ("HIJAB", "JEDI", "GLADIATOR_HELMET", "ASTRONAUT", "HAT", "CURLY_2", "LONG_HAIR_CURLY", "LOOSE_HAIR")


def draw_face(rng):
    """Puts a face together.

    Args:
        rng: `numpy.random.Generator`.

    Returns:
        Tuple of the drawing as SVG text, a dict of labels, and the landmarks, of shape (5, 2), from 0 to 1. A label is
        -1 where the attribute is not to be seen, such as the color of hair under a hat.
    """
    import python_avatars as pa

    def pick(members, avoid=()):
        members = [member for member in members if member.name not in avoid]
        return members[rng.integers(len(members))]

    def place(member):
        return list(type(member)).index(member)

    hat = bool(rng.random() < 0.2)
    smile = bool(rng.random() < 0.4)
    glasses = bool(rng.random() < 0.5)
    beard = bool(rng.random() < 0.4)
    mouths = [mouth for mouth in pa.MouthType if (mouth.name in SMILES) == smile]
    accessories = [a for a in pa.AccessoryType if (a.name not in NOT_GLASSES) == glasses]
    parts = {
        "top": pick(pa.HatType if hat else pa.HairType, NOT_TOPS),
        "mouth": pick(mouths),
        "accessory": pick(accessories) if glasses or rng.random() < 0.2 else pa.AccessoryType.NONE,
        "facial_hair": pick(pa.FacialHairType, ("NONE",)) if beard else pa.FacialHairType.NONE,
        "eyes": pick(pa.EyeType),
        "eyebrows": pick(pa.EyebrowType),
        "nose": pick(pa.NoseType),
        "skin_color": pick(pa.SkinColor),
        "hair_color": pick(pa.HairColor),
        "facial_hair_color": pick(pa.HairColor),
        "clothing": pick(pa.ClothingType, ("NONE",)),
        "clothing_color": pick(pa.ClothingColor),
        "hat_color": pick(pa.ClothingColor),
        "shirt_graphic": pick(pa.ClothingGraphic, ("NONE", "CUSTOM_TEXT")),
    }
    angle, scale, shift = rng.uniform(-15, 15), rng.uniform(0.9, 1.1), rng.uniform(-5, 5, 2)
    drawing = pa.Avatar(style=pa.AvatarStyle.TRANSPARENT, **parts).render()
    labels = {
        "skin": place(parts["skin_color"]),
        "glasses": int(glasses),
        "smile": int(smile),
        "mouth": place(parts["mouth"]),
        "eyes": place(parts["eyes"]),
        "eyebrows": place(parts["eyebrows"]),
        "beard": int(beard),
        "beard_type": place(parts["facial_hair"]),
        "hat": int(hat),
        "hair_color": -1 if hat or parts["top"].name in ("NONE", "SHAVED_SIDES") else place(parts["hair_color"]),
        "clothing": place(parts["clothing"]),
        "clothing_color": -1 if parts["clothing"].name == "ASTRONAUT_SUIT" else place(parts["clothing_color"]),
        "pose": 1 + int(angle > 5) - int(angle < -5),
    }
    return pose(drawing, angle, scale, shift), labels, landmarks(angle, scale, shift)


def pose(drawing, angle, scale, shift):
    """The drawing turned, scaled and shifted behind a fixed window."""
    start = drawing.index("<svg")
    end = drawing.index(">", start)
    spaces = " ".join(re.findall(r'xmlns(?::\w+)?="[^"]*"', drawing[start:end]))
    inner = drawing[end + 1 : drawing.rindex("</svg>")]
    (x, y), (dx, dy) = CENTER, shift
    return (
        f'<svg {spaces} width="{SIDE}" height="{SIDE}" viewBox="{LEFT} {TOP} {SHOWN} {SHOWN}">'
        f'<g transform="translate({x + dx} {y + dy}) rotate({angle}) scale({scale}) translate({-x} {-y})">'
        f"{inner}</g></svg>"
    )


def landmarks(angle, scale, shift):
    """Where the landmarks of a posed face are in the picture, from 0 to 1."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = (LANDMARKS - CENTER) @ np.array([[cos, sin], [-sin, cos]]) * scale + CENTER + shift
    return (turned - (LEFT, TOP)) / SHOWN


def render(seed):
    """Picture of shape (64, 64, 3), labels and landmarks of the face with this seed."""
    import resvg_py
    from PIL import Image

    rng = np.random.default_rng(seed)
    drawing, labels, points = draw_face(rng)
    background = "#{:02x}{:02x}{:02x}".format(*rng.integers(120, 256, 3))
    png = resvg_py.svg_to_bytes(svg_string=drawing, background=background, skip_system_fonts=True)
    picture = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    return picture, [labels[name] for name in ATTRIBUTES], points.ravel()


def render_all(count, seed):
    """Renders `count` faces in two processes, under a progress bar."""
    for package in ("python_avatars", "resvg_py"):
        package_spec(package)  # here, where its absence is told, not in another process
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        seeds = [(seed, index) for index in range(count)]
        rendered = list(track(pool.map(render, seeds, chunksize=50), "rendering faces, once", total=count))
    pictures, labels, points = zip(*rendered, strict=True)
    arrays = {"pictures": np.stack(pictures), "landmarks": np.asarray(points, "float32")}
    return arrays | dict(zip(ATTRIBUTES, np.asarray(labels, "int32").T, strict=True))


def drawn_faces(tasks, splits=SPLITS, side=SIDE, seed=0, cache=CACHE):
    """Pictures and labels of every split.

    Args:
        tasks: Collection of "landmarks" and names of `ATTRIBUTES`.
        splits: Dict from split to number of faces. Defaults to `SPLITS`.
        side: Integer. Height and width of the pictures: 64, its half or its quarter. Defaults to 64.
        seed: Integer. Which faces. Defaults to 0.
        cache: `pathlib.Path`. The folder that keeps the rendered faces.

    Returns:
        Dict from split to `(pictures, labels)`: pictures of shape (n, side, side, 3) from 0 to 1, and a dict from task
        to classes of shape (n,) or landmarks of shape (n, 10). A label is -1 where an attribute is not to be seen.
    """
    count = sum(splits.values())
    arrays = cached(cache, f"faces-{count}-{seed}", lambda: render_all(count, seed))
    pictures = arrays["pictures"].astype("float32") / 255.0
    pictures = parts_of(smaller(pictures, SIDE // side) if side < SIDE else pictures, splits)
    labels = {task: parts_of(arrays[task], splits) for task in tasks}
    return {split: (pictures[split], {task: labels[task][split] for task in tasks}) for split in splits}
