"""Commands for a home as a sentence encoder's pieces and vectors, with their labels."""

import keras
import numpy as np

from . import minilm
from .home_commands import NOT_LABELLED, commands

LENGTH = 16  # pieces
TASKS = ("intent", "domain", "slots")


def number(found):
    """Labels of the commands, -1 where there is none, and the classes of each task."""
    classes = {
        "intent": sorted({c.intent for c in found}),
        "domain": sorted({c.domain for c in found if c.domain}),
        "slots": sorted({tag for c in found for tag in c.tags}),
    }
    numbers = {task: {name: i for i, name in enumerate(names)} for task, names in classes.items()}
    pieces = minilm.word_pieces()
    rows, labels = [], {task: [] for task in TASKS}
    for command in found:
        row, places = pieces.of_sentence(command.words, LENGTH)
        slots = np.full(LENGTH, NOT_LABELLED)  # a word's label stands at its first piece
        slots[places] = [numbers["slots"][tag] for tag in command.tags]
        rows.append(row)
        labels["slots"].append(slots)
        for task, value in (("intent", command.intent), ("domain", command.domain)):
            labels[task].append([numbers[task].get(value, NOT_LABELLED)])
    return np.array(rows), {task: np.array(values, "int32") for task, values in labels.items()}, classes


def make_data(count):
    """Numbers of pieces, the encoder's vectors before its last block and after it, and labels."""
    rows, labels, classes = number(commands(count, longest=10))
    _, encoder = minilm.encoder(LENGTH)
    before, after = keras.Model(encoder.input, encoder.outputs[-2:]).predict(rows, batch_size=64, verbose=0)
    there = rows[..., None] > 0  # nothing but zeros where there is no piece, for `Masking`
    known = np.unique(rows, return_inverse=True)[1].reshape(rows.shape)  # 0 stays 0: it is the smallest
    x = {"pieces": known.astype("int32"), "before": before * there, "after": after * there}
    return x, labels, classes
