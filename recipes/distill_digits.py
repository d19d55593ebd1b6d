"""Four teachers of handwritten digits, one student without a single label.

About a quarter of an hour on two cores, half a minute with --quick; downloads nothing.

Which digit, even or odd, at least five, with a loop or without: each teacher is a network of its own that learned one
task from 500 labelled pictures of its own. The student is one trunk with four heads, about a quarter of the teachers'
parameters, and sees 2,000 other pictures without labels, and what the teachers say of them. All see their pictures
moved by up to two pixels.

    joint                  the student's network, without teachers, on the teachers' pictures: one label for each
    distilled              the student on the unlabelled pool, taught by the teachers alone
    distilled + labels     on the pool and the teachers' pictures, labels taking over as training goes on (BAM)

What it must show: that the student without a label is within 2.5 points of every teacher with every seed. What it
cannot: that distilling beats labels; the last row has more pictures than the first two, and no label more.

    python recipes/distill_digits.py [--quick] [--seeds 5] [--epochs 40] [--temperature 2]
"""

from functools import lru_cache

from common import command_line, console, convolutions, may_state, study

import keras
import numpy as np
import tensorflow as tf
from data.arrays import parts_of
from data.digits import load_digits

import keras_mtl

TASKS = {
    "digit": lambda classes: classes,
    "even": lambda classes: (classes % 2 == 0).astype("int32"),
    "at_least_five": lambda classes: (classes >= 5).astype("int32"),
    "loop": lambda classes: np.isin(classes, [0, 6, 8, 9]).astype("int32"),
}
CLASSES = {"digit": 10, "even": 2, "at_least_five": 2, "loop": 2}
LABELLED, POOL, TEST = 500, 2000, 1000
BATCH = 50
SHIFT = 2  # pixels
TEACHERS, JOINT, DISTILLED, BOTH = MODELS = ("teachers", "joint", "distilled", "distilled + labels")


def split(images, classes, seed):
    """Test pictures, the unlabelled pool, and other labelled pictures for each task."""
    order = np.random.default_rng(seed).permutation(len(images))
    parts = parts_of(order, {"test": TEST, "pool": POOL, **dict.fromkeys(TASKS, LABELLED)})
    return {name: (images[rows, :, :, None], classes[rows]) for name, rows in parts.items()}


def build(tasks):
    heads = {task: keras.layers.Dense(CLASSES[task]) for task in tasks}
    return keras_mtl.hard_sharing(keras.Input((28, 28, 1)), convolutions(8, 16, units=32), heads)


def shifted(picture, *labels):
    """A picture moved by up to `SHIFT` pixels, and its labels."""
    height, width, channels = picture.shape
    larger = tf.image.resize_with_crop_or_pad(picture, height + 2 * SHIFT, width + 2 * SHIFT)
    return tf.image.random_crop(larger, (height, width, channels)), *labels


def train(model, x, y, epochs, callbacks):
    """Trains for as many steps whatever the number of pictures: `epochs` are those of the pool."""
    model.compile(
        keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        missing=-1,
        steps_per_execution=10,
    )
    epochs = max(1, round(epochs * POOL / len(x)))
    pictures = tf.data.Dataset.from_tensor_slices((x,) if y is None else (x, y))
    batches = pictures.shuffle(len(x)).map(shifted).batch(BATCH)
    model.fit(batches, shuffle=False, epochs=epochs, callbacks=callbacks, verbose=0)


def labelled_pictures(data, also_pool=False):
    """The teachers' pictures together, each with the label of one task, and -1 for the others."""
    parts = [data[task][0] for task in TASKS] + ([data["pool"][0]] if also_pool else [])
    labels = {task: np.full(sum(map(len, parts)), -1, "int32") for task in TASKS}
    for index, (task, label) in enumerate(TASKS.items()):
        labels[task][index * LABELLED : (index + 1) * LABELLED] = label(data[task][1])
    return np.concatenate(parts), labels


def accuracies(model, data):
    """Test accuracy in percent of the tasks that a model has."""
    x, classes = data["test"]
    outputs = model.predict(x, batch_size=500, verbose=0)
    return {task: 100 * np.mean(outputs[task].argmax(1) == TASKS[task](classes)) for task in outputs}


def main():
    options = command_line(__file__, __doc__, epochs=(40, 1), temperature=(2.0, "of the teachers"))
    options.models = MODELS
    images, classes = load_digits()
    data_of = lru_cache(1)(lambda seed: split(images, classes, seed))
    teachers = {}  # of this seed

    def run(name, seed, callbacks):
        data, found = data_of(seed), {}
        if name == TEACHERS:
            for task, label in TASKS.items():
                teachers[task] = build([task])
                x, y = data[task]
                # The last one's logs are as good as any.
                train(teachers[task], x, {task: label(y)}, options.epochs, callbacks if task == "loop" else [])
                found |= accuracies(teachers[task], data)
            return {"parameters": sum(teacher.count_params() for teacher in teachers.values()), **found}
        student = build(TASKS)
        if name == JOINT:
            fit, x, y = student, *labelled_pictures(data)
        elif name == DISTILLED:
            fit = keras_mtl.distillation.distill(student, teachers, temperature=options.temperature, annealing=0.0)
            x, y = data["pool"][0], None
        else:
            fit = keras_mtl.distillation.distill(student, teachers, temperature=options.temperature)
            x, y = labelled_pictures(data, also_pool=True)
        train(fit, x, y, options.epochs, callbacks)
        return {"parameters": student.count_params(), **accuracies(student, data)}

    how = {"reference": TEACHERS, "paired": True, "comparisons": (len(MODELS) - 1) * len(TASKS), "gain": False}
    results = study(run, options, tuple(TASKS), title="Test accuracy in percent", **how)
    if may_state(options):
        below = {t: np.subtract(results[TEACHERS][t], results[DISTILLED][t]) for t in TASKS}
        worst = max((points, t, seed) for t in TASKS for points, seed in zip(below[t], options.seeds, strict=True))
        console.print(
            f"At worst the distilled student is {worst[0]:.1f} points below a teacher ({worst[1]}, seed {worst[2]}); "
            "expected: at most 2.5."
        )


if __name__ == "__main__":
    main()
