"""Share or not? `keras_mtl.advise` on two pairs of questions about handwritten digits: one way and the other.

A minute and a half on two cores; downloads nothing.

"one digit": a digit is seen, and four questions about it are asked: is it even, more than 4, prime, drawn with a loop?
All need to know what digit it is, and there are few examples. "two digits": two digits are seen side by side, and what
each of them is is asked. What tells the left digit says nothing of the right one, and the trunk is narrow.

What it can show: what `advise` says, how long it takes, and that it says not to share too. What it cannot: that it is
right on other data (recipes/studies/advise.py counts that).

    python recipes/ask.py [--quick] [--minutes 0.6]

For each pair, a page and TensorBoard's logs of the chosen model go to runs/ask/: tensorboard --logdir runs/ask
"""

from common import command_line, console

import keras
import numpy as np
from data.digits import load_digits

import keras_mtl

QUESTIONS = {
    "even": lambda digit: digit % 2 == 0,
    "more than 4": lambda digit: digit > 4,
    "prime": lambda digit: np.isin(digit, (2, 3, 5, 7)),
    "loop": lambda digit: np.isin(digit, (0, 6, 8, 9)),
}


def smaller(images):
    """Pictures of half the height and width, as vectors."""
    return images.reshape(len(images), 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(images), -1)


def one_digit(images, digits):
    """Inputs, stages, heads, losses, metrics, training and test data."""
    x = smaller(images)
    y = {task: answer(digits).astype("float32")[:, None] for task, answer in QUESTIONS.items()}
    heads = {task: keras.layers.Dense(1, activation="sigmoid") for task in y}
    parts = [(x[rows], {task: labels[rows] for task, labels in y.items()}) for rows in (slice(600), slice(2000, None))]
    return 196, 32, heads, "binary_crossentropy", "auc", *parts


def two_digits(images, digits):
    """The same, for pairs of digits."""
    rng = np.random.default_rng(0)
    x = smaller(images)

    def pairs(first, last, count):
        left, right = rng.integers(first, last, (2, count))
        return np.concatenate([x[left], x[right]], axis=1), {"left": digits[left], "right": digits[right]}

    heads = {task: keras.layers.Dense(10, activation="softmax") for task in ("left", "right")}
    loss = "sparse_categorical_crossentropy"
    return 392, 12, heads, loss, "accuracy", pairs(0, 2000, 1500), pairs(2000, 5000, 3000)


def main():
    options = command_line(__file__, __doc__, minutes=(0.6, "for each"))
    images, digits = load_digits()
    order = np.random.default_rng(0).permutation(len(images))
    for name, make in (("one digit", one_digit), ("two digits", two_digits)):
        size, units, heads, loss, metric, train, test = make(images[order], digits[order])
        advice = keras_mtl.advise(
            keras.Input((size,)),
            stages=[keras.layers.Dense(units, activation="relu", name="hidden")],
            heads=heads,
            train=train,
            test=test,
            compile={"optimizer": keras.optimizers.Adam(3e-3), "loss": loss},
            metrics=dict.fromkeys(heads, metric),
            minutes=options.minutes,
            epochs=2 if options.quick else 15,
            logs=options.folder / "logs" / name.replace(" ", "_"),
        )
        page = options.folder / f"{name.replace(' ', '_')}.html"
        advice.to_html(page)
        console.print(f"[bold]{name}[/]: {advice.verdict}\n{advice.seconds:.0f} s, page: {page}\n")


if __name__ == "__main__":
    main()
