"""Share or not? `keras_mtl.advise` on two sets of questions about handwritten digits: one way and the other.

A minute and a half on two cores at most, since it keeps to the time that it is given; downloads nothing.

"readers": three people have labelled 1,000 digits, each of whom guessed at every other one (which is made up; the
pictures are real). What they agree in teaches all three. "two digits": two digits are seen side by side, and what each
of them is is asked. What tells the left digit says nothing of the right one, and the trunk is narrow.

What it can show: what `advise` says, how long it takes, and that it says not to share too. What it cannot: that it is
right on other data (recipes/studies/advise.py counts that).

    python recipes/ask.py [--quick] [--minutes 0.6]

For each, a page and TensorBoard's logs of the last trainings go to runs/ask/: tensorboard --logdir runs/ask
"""

from common import command_line, console

import keras
import numpy as np
from data.arrays import smaller
from data.digits import load_digits

import keras_mtl


def readers(x, digits):
    """Units of the stage, training data, and test data with the right labels."""
    rng = np.random.default_rng(0)
    names = ("first", "second", "third")
    guessed = {name: np.where(rng.random(len(x)) < 0.5, rng.integers(0, 10, len(x)), digits) for name in names}
    train = x[:1000], {name: labels[:1000] for name, labels in guessed.items()}
    return 64, train, (x[2000:], dict.fromkeys(names, digits[2000:]))


def two_digits(x, digits):
    """The same, for pairs of digits."""
    rng = np.random.default_rng(0)

    def pairs(first, last, count):
        left, right = rng.integers(first, last, (2, count))
        return np.concatenate([x[left], x[right]], axis=1), {"left": digits[left], "right": digits[right]}

    return 12, pairs(0, 2000, 1500), pairs(2000, 5000, 3000)


def main():
    options = command_line(__file__, __doc__, minutes=(0.6, "for each"))
    images, digits = load_digits()
    x, order = smaller(images, 2).reshape(len(images), -1), np.random.default_rng(0).permutation(len(images))
    for name, make in (("readers", readers), ("two digits", two_digits)):
        units, train, test = make(x[order], digits[order])
        advice = keras_mtl.advise(
            keras.Input(train[0].shape[1:]),
            stages=[keras.layers.Dense(units, activation="relu", name="hidden")],
            heads={task: keras.layers.Dense(10, activation="softmax") for task in train[1]},
            train=train,
            test=test,
            compile={"optimizer": keras.optimizers.Adam(3e-3), "loss": "sparse_categorical_crossentropy"},
            metrics=dict.fromkeys(train[1], "accuracy"),
            minutes=options.minutes,
            epochs=2 if options.quick else 12,
            logs=options.folder / "logs" / name.replace(" ", "_"),
        )
        page = options.folder / f"{name.replace(' ', '_')}.html"
        advice.to_html(page)
        console.print(f"[bold]{name}[/]: {advice.verdict}\n{advice.seconds:.0f} s, page: {page}\n")


if __name__ == "__main__":
    main()
