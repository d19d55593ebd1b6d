"""Two overlaid handwritten digits, one task for each: does sharing a trunk help, and does the weighting matter?

About six minutes on two cores, half a minute with --quick; downloads nothing.

Every picture holds two real digits. A network for each digit, and one trunk for both with several weightings, get the
same pictures, epochs and optimizer. delta_m is the mean over the tasks of the relative gain over single-task, in %.

What it can show: whether one trunk keeps up with two networks, at half the parameters, and which weightings differ from
that by more than the seeds do. What it cannot: seeds draw initial weights and the order of batches, but all use one
split of 5,000 digits, and the network is small. The learning rate was chosen on the validation pictures.

    python recipes/multi_digits.py [--quick] [--weightings equal,pcgrad,mgda:features] [--seeds 8] [--epochs 4]
"""

from common import SINGLE, command_line, compared, summarize

import keras
from data.digits import SIDE, two_digits

import keras_mtl

TASKS = ("left", "right")
BATCH = 100


def build(weighting, steps, shared_depth=None):
    """A LeNet of three stages and a head of ten classes for each digit, compiled with a weighting as `--weightings`."""
    layers = keras.layers
    model = keras_mtl.hard_sharing(
        inputs=keras.Input((SIDE, SIDE, 1)),
        stages=[
            [layers.Conv2D(10, 5, activation="relu"), layers.MaxPooling2D()],
            [layers.Conv2D(20, 5, activation="relu"), layers.MaxPooling2D()],
            [layers.Flatten(), layers.Dense(50, activation="relu")],
        ],
        heads={task: layers.Dense(10) for task in TASKS},
        shared_depth=shared_depth,
    )
    name, _, gradients = weighting.partition(":")
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(6e-3, steps)),
        loss={task: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for task in TASKS},
        metrics={task: ["accuracy"] for task in TASKS},
        weighting=name,
        gradients=gradients or "parameters",
    )
    return model


def main():
    words = "names of keras_mtl.weighting.names(), with :features or :last_shared added for gradients="
    options = command_line(__file__, __doc__, epochs=(4, 1), weightings=("equal,uncertainty,mgda,mgda:features", words))
    pairs = (2000, 500, 500) if options.quick else (8000, 2000, 4000)
    data = two_digits(dict(zip(("train", "validation", "test"), pairs, strict=True)))
    steps = options.epochs * pairs[0] // BATCH
    results, _ = compared(
        {name: lambda name=name: build(name, steps) for name in options.weightings.split(",")},
        options,
        data["train"],
        dict.fromkeys(TASKS, "accuracy"),
        baselines=lambda: build("equal", steps, shared_depth=0),  # each column is trained alone
        validation=data["validation"],
        test=data["test"],
        batch_size=BATCH,
        validation_batch_size=500,
    )
    summarize(results, options, TASKS, title="Test accuracy in percent", reference=SINGLE)


if __name__ == "__main__":
    main()
