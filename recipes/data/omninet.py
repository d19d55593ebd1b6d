"""Three generated tasks for one core: questions about pictures, motion in films, and tags of words."""

import numpy as np

from .shapes import RADII, SHAPES, coverage, paint

LENGTH, WORDS, TAGS = 8, 15, 4
TASKS = ("answer", "motion", "tags")
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def in_cells(pictures):
    """Pictures `(..., 30, 30, 3)` as `(..., 9, 309)`: the pixels of each cell, and ones that say which cell it is."""
    around = pictures.shape[:-3]
    cells = pictures.reshape(*around, 3, 10, 3, 10, 3).swapaxes(-4, -3).reshape(*around, 9, 300)
    return np.concatenate([cells, np.broadcast_to(np.eye(9, dtype="float32"), (*around, 9, 9))], axis=-1)


def make_answers(count, rng):
    """Pictures, questions such as "shape red", and which shape that is; three questions about each picture."""
    pictures, questions, answers = [], [], []
    for _ in range(-(-count // 3)):
        picture = np.zeros((30, 30, 3), "float32")
        for color, cell in enumerate(rng.choice(9, 3, replace=False)):
            shape = int(rng.integers(3))
            y, x = 10 * (cell // 3), 10 * (cell % 3)
            drawn = coverage(SHAPES[shape], rng.choice(RADII) * rng.uniform(0.9, 1.1))
            picture[y : y + 10, x : x + 10] = drawn[..., None] * paint(rng, color)
            questions.append([1, 2 + color])  # "shape <color>"
            answers.append(shape)
        pictures += [picture] * 3
    x = {"image": in_cells(np.stack(pictures)[:count, None]), "question": np.array(questions[:count], "int32")}
    return x, np.array(answers[:count])


def make_motion(count, rng):
    """Films of five frames in which an object moves by 3 pixels a frame, and in which direction."""
    films, directions = np.zeros((count, 5, 30, 30, 3), "float32"), rng.integers(4, size=count)
    for film, direction in zip(films, directions, strict=True):
        step = 3 * np.array(MOVES[direction])
        low = np.maximum(0, -4 * step)
        start = rng.integers(low, 21 - np.maximum(0, 4 * step))
        drawn = coverage(SHAPES[rng.integers(3)], rng.choice(RADII))[..., None] * paint(rng, int(rng.integers(3)))
        for t, frame in enumerate(film):
            y, x = start + t * step
            frame[y : y + 10, x : x + 10] = drawn
    return {"film": in_cells(films)}, directions


def make_tags(count, rng):
    """Sequences of words and their tags: words 12 to 15 are tagged by what was before them."""
    words = rng.integers(1, WORDS + 1, (count, LENGTH))
    tags = np.zeros((count, LENGTH), "int64")
    for place in range(LENGTH):
        before = tags[:, place - 1] if place else np.zeros(count, "int64")
        ambiguous = words[:, place] > WORDS - 4
        tags[:, place] = np.where(ambiguous, (before + words[:, place]) % TAGS, words[:, place] % TAGS)
    return {"words": words.astype("int32"), "tags_tokens": tags.astype("int32")}, tags


def make_data(seed, sizes):
    """Each task's examples: dict from task to `(x, y)`."""
    rng = np.random.default_rng(seed)
    made = (make_answers, make_motion, make_tags)
    return {task: make(size, rng) for task, make, size in zip(TASKS, made, sizes, strict=True)}
