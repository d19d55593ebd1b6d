"""Eight real data sets, made small: each gives inputs, stages, heads, losses, metrics, training and test data."""

import keras
import numpy as np
from keras import layers

from . import census_income, digits, faces, home_commands, movielens, qm9, support2, yeast
from .arrays import rows_of, smaller, split_at


def dense(*units):
    return [[layers.Dense(n, activation="relu", name=f"hidden_{i}"), layers.Dropout(0.2)] for i, n in enumerate(units)]


def binary(tasks):
    return (
        {task: layers.Dense(1, activation="sigmoid") for task in tasks},
        dict.fromkeys(tasks, "binary_crossentropy"),
        dict.fromkeys(tasks, "auc"),
    )


def classes(counts):
    return (
        {task: layers.Dense(n, activation="softmax") for task, n in counts.items()},
        dict.fromkeys(counts, "sparse_categorical_crossentropy"),
        dict.fromkeys(counts, "accuracy"),
    )


def some(data, count, seed=0):
    """Some examples, drawn at random."""
    size = len(next(iter(data[1].values())))
    return rows_of(data, np.random.default_rng(seed).permutation(size)[:count])


def genes():
    splits = yeast.yeast()
    tasks = {f"f{k}": k for k in range(6)}
    train, test = ((x, {t: y[:, k : k + 1] for t, k in tasks.items()}) for x, y in (splits["train"], splits["test"]))
    return keras.Input((103,)), dense(64, 32), *binary(tasks), train, test


def patients():
    tasks, numbers = ("hospital_death", "dead_180", "charges", "stay"), ("charges", "stay")
    splits = support2.support2(validation=0)
    train, test = ((x, {t: y[t] for t in tasks}) for x, y in (splits["train"], splits["test"]))
    heads, loss, metrics = binary(tasks)
    for task in numbers:
        heads[task], loss[task], metrics[task] = layers.Dense(1), "mse", "mae"
    return keras.Input(train[0].shape[1:]), dense(64, 32), heads, loss, metrics, some(train, 4000), test


def molecules():
    tasks = ("mu", "alpha", "homo", "gap")
    splits = qm9.standardized(qm9.qm9({"train": 3000, "test": 3000}))
    train, test = ((x, {t: y[t] for t in tasks}) for x, y in (splits["train"], splits["test"]))
    heads = {task: layers.Dense(1) for task in tasks}
    both = dict.fromkeys(tasks, "mse"), dict.fromkeys(tasks, "mae")
    return keras.Input(train[0].shape[1:]), dense(64, 32), heads, *both, train, test


def films():
    splits = movielens.impressions(unwatched=2, validation=0)
    names = ("person", "film", "age", "gender", "occupation")
    sizes = [max(int(splits[s][0][n].max()) for s in ("train", "test")) + 1 for n in names]
    offsets = np.cumsum([0, *sizes[:-1]]).astype("int32")
    parts = []
    for split, count in (("train", 8000), ("test", 8000)):
        x, y = some(splits[split], count)
        parts.append((np.stack([x[n] for n in names], axis=1).astype("int32") + offsets, y))
    stages = [[layers.Embedding(sum(sizes), 8), layers.Flatten()], *dense(32)]
    return keras.Input((len(names),), dtype="int32"), stages, *binary(("watched", "liked")), *parts


def people():
    splits, codes = census_income.census_income(("income", "never_married"), validation=0, rows=6000)
    (x, y), (x_test, y_test) = splits["train"], some(splits["test"], 8000)
    train, test = x["codes"], x_test["codes"]
    stages = [[layers.Embedding(codes, 8), layers.Flatten()], *dense(32)]
    inputs = keras.Input(train.shape[1:], dtype="int32")
    return inputs, stages, *binary(("income", "never_married")), (train, y), (test, y_test)


def small_faces():
    parts = faces.drawn_faces(list(faces.ATTRIBUTES)[:5], {"train": 2000, "test": 1500}, side=16)
    counts = {task: int(max(y[task].max() for _, y in parts.values())) + 1 for task in parts["train"][1]}
    return keras.Input((16, 16, 3)), convolutions(16, 32), *classes(counts), parts["train"], parts["test"]


def convolutions(*filters):
    stages = [
        [layers.Conv2D(n, 3, padding="same", activation="relu", name=f"conv_{i}"), layers.MaxPooling2D(2)]
        for i, n in enumerate(filters)
    ]
    return [*stages, [layers.Flatten(), layers.Dense(32, activation="relu", name="hidden")]]


def two_digits():
    parts = digits.two_digits({"train": 3000, "test": 2000})
    both = ((smaller(pictures, 2), y) for pictures, y in (parts["train"], parts["test"]))
    return keras.Input((18, 18, 1)), convolutions(16, 32), *classes({"left": 10, "right": 10}), *both


def commands():
    found = home_commands.commands(4000)
    words = {word: i + 2 for i, word in enumerate(sorted({w for c in found[:2000] for w in c.words}))}
    x = np.zeros((len(found), 12), "int32")
    for row, command in enumerate(found):
        x[row, : len(command.words)] = [words.get(word, 1) for word in command.words]
    names = {"intent": [c.intent for c in found], "domain": [str(c.domain) for c in found]}
    y = {task: np.unique(values, return_inverse=True)[1].astype("int32") for task, values in names.items()}
    counts = {task: int(values.max()) + 1 for task, values in y.items()}
    stages = [[layers.Embedding(len(words) + 2, 16), layers.GlobalAveragePooling1D()], *dense(32)]
    return keras.Input((12,), dtype="int32"), stages, *classes(counts), *split_at((x, y), 2000)


DATA = {
    "genes": genes,
    "patients": patients,
    "molecules": molecules,
    "films": films,
    "people": people,
    "faces": small_faces,
    "digits": two_digits,
    "commands": commands,
}
