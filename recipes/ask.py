"""Share or not? `keras_mtl.advise` on two sets of questions about handwritten digits: one way and the other.

A minute and a half on two cores; downloads nothing.

"few labels": what digit is it, is it even, is it drawn with a loop? 1,000 pictures have a label of the first question,
100 of them labels of the others. "two digits": two digits are seen side by side, and what each of them is is asked.
What tells the left digit says nothing of the right one, and the trunk is narrow.

What it can show: what `advise` says, how long it takes, and that it says not to share too. What it cannot: that it is
right on other data (recipes/studies/advise.py counts that).

    python recipes/ask.py [--quick] [--minutes 0.7]

For each, a page and TensorBoard's logs of the last trainings go to runs/ask/: tensorboard --logdir runs/ask
"""

from common import command_line, console

import keras
import numpy as np
from data.digits import load_digits

import keras_mtl


def smaller(images):
    """Pictures of half the height and width, as vectors."""
    return images.reshape(len(images), 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(images), -1)


def few_labels(images, digits):
    """Inputs, units of the stage, heads, losses, metrics, training and test data."""
    x = smaller(images)
    y = {"digit": digits, "even": digits % 2 == 0, "loop": np.isin(digits, (0, 6, 8, 9))}
    y = {task: labels.astype("float32")[:, None] for task, labels in y.items()}
    train, test = ((x[rows], {task: y[task][rows].copy() for task in y}) for rows in (slice(1000), slice(2000, None)))
    binary = ("even", "loop")
    for task in binary:
        train[1][task][100:] = np.nan
    heads = {task: keras.layers.Dense(1, activation="sigmoid") for task in binary}
    heads = {"digit": keras.layers.Dense(10, activation="softmax"), **heads}
    loss = {"digit": "sparse_categorical_crossentropy", **dict.fromkeys(binary, "binary_crossentropy")}
    return 196, 64, heads, loss, {"digit": "accuracy", "even": "auc", "loop": "auc"}, train, test


def two_digits(images, digits):
    """The same, for pairs of digits."""
    rng = np.random.default_rng(0)
    x = smaller(images)

    def pairs(first, last, count):
        left, right = rng.integers(first, last, (2, count))
        return np.concatenate([x[left], x[right]], axis=1), {"left": digits[left], "right": digits[right]}

    heads = {task: keras.layers.Dense(10, activation="softmax") for task in ("left", "right")}
    metrics = dict.fromkeys(heads, "accuracy")
    return 392, 12, heads, "sparse_categorical_crossentropy", metrics, pairs(0, 2000, 1500), pairs(2000, 5000, 3000)


def main():
    options = command_line(__file__, __doc__, minutes=(0.7, "for each"))
    images, digits = load_digits()
    order = np.random.default_rng(0).permutation(len(images))
    for name, make in (("few labels", few_labels), ("two digits", two_digits)):
        size, units, heads, loss, metrics, train, test = make(images[order], digits[order])
        advice = keras_mtl.advise(
            keras.Input((size,)),
            stages=[keras.layers.Dense(units, activation="relu", name="hidden")],
            heads=heads,
            train=train,
            test=test,
            compile={"optimizer": keras.optimizers.Adam(3e-3), "loss": loss, "missing": "nan"},
            metrics=metrics,
            minutes=options.minutes,
            epochs=2 if options.quick else 15,
            logs=options.folder / "logs" / name.replace(" ", "_"),
        )
        page = options.folder / f"{name.replace(' ', '_')}.html"
        advice.to_html(page)
        console.print(f"[bold]{name}[/]: {advice.verdict}\n{advice.seconds:.0f} s, page: {page}\n")


if __name__ == "__main__":
    main()
