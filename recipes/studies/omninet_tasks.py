"""OmniNet on three tasks at once: questions about pictures, motion in films, and tags of words.

About forty minutes on two cores, a minute with --quick; downloads nothing.

One core reads pictures, films and text (Pramanik et al., 2019): which shape a color has in a picture of 3 x 3 cells;
how one object moves in five frames; and tags of 8 words, four of which depend on the tag before, told tag by tag.

What it shows: that the core of one model learns all three, and, by leaving it out, what the attention over places is
worth: how right the tasks get, and after how many steps 97 % of the answers are. What it does not: tasks of this size
say nothing about the data sets of the paper, nor whether one core saves parameters against a model for each task.

    python recipes/studies/omninet_tasks.py [--quick] [--seeds 5] [--steps 1500]
"""

import parent  # noqa: F401
from common import command_line, console, steps_until, study

import keras
import numpy as np
import tensorflow as tf
from data.omninet import LENGTH, MOVES, TAGS, TASKS, WORDS, make_data
from data.shapes import COLORS, SHAPES

import keras_mtl

FEATURES = 64
BATCH = {"answer": 128, "motion": 32, "tags": 32}
ENOUGH = 0.97  # right answers by which learning is called done
MODELS = {"with places": True, "without places": False}


def build(spatial=True):
    """The model: peripherals for pictures and text, which films and words go through too."""
    dense = keras.layers.Dense
    inputs = {
        "image": keras.Input((1, 9, 309), name="image"),
        "film": keras.Input((5, 9, 309), name="film"),
        "question": keras.Input((2,), dtype="int32", name="question"),
        "words": keras.Input((LENGTH,), dtype="int32", name="words"),
    }
    peripherals = {
        "image": [dense(FEATURES, activation="relu"), dense(FEATURES)],
        "question": keras.layers.Embedding(2 + len(COLORS), FEATURES),
        "text": keras.layers.Embedding(1 + WORDS, FEATURES),
    }
    task = keras_mtl.multimodal.OmniTask
    tasks = {
        "answer": task({"image": "image", "question": "question"}, dense(len(SHAPES))),
        "motion": task({"film": "image"}, dense(len(MOVES))),
        "tags": task({"words": "text"}, dense(TAGS), tokens=TAGS, length=LENGTH),
    }
    return keras_mtl.multimodal.omninet(inputs, peripherals, tasks, spatial=spatial)


def train(seed, steps, spatial=True, sizes=(12000, 4000, 4000), callbacks=(), epochs=15):
    """Trains a model: the model, and its share of right answers by task after each epoch."""
    keras.utils.set_random_seed(seed)
    model = build(spatial)
    data, tests = make_data(seed, sizes), make_data(seed + 1000, (1800, 600, 600))
    datasets = {
        task: tf.data.Dataset.from_tensor_slices(part).shuffle(len(part[1]), seed=seed) for task, part in data.items()
    }
    mixture = keras_mtl.data.mix(datasets, batch="joint", batch_size=BATCH, stop=steps // epochs, seed=seed)
    rate = keras.optimizers.schedules.PolynomialDecay(1e-3, steps, 1e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=loss, jit_compile=False)

    found = {task: [] for task in TASKS}

    def test(epoch, logs):
        for task, part in tests.items():
            found[task].append(accuracy(model, task, *part))

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=test), *callbacks]
    model.fit(mixture, epochs=epochs, shuffle=False, callbacks=callbacks, verbose=0)
    return model, found


def accuracy(model, task, x, y):
    """Share of right answers; tags are told one by one, each with those that were told before."""
    if task == "tags":
        return float((keras_mtl.multimodal.decode(model, task, x, batch_size=1800) == y).mean())
    return float((model.task_model(task).predict(x, batch_size=1800, verbose=0).argmax(-1) == y).mean())


def main():
    options = command_line(__file__, __doc__, models=MODELS, steps=(1500, "of each training; 10 under --quick"))
    steps, sizes, epochs = (10, (300, 100, 100), 1) if options.quick else (options.steps, (12000, 4000, 4000), 15)

    def run(name, seed, callbacks):
        model, found = train(seed, steps, MODELS[name], sizes, callbacks, epochs)
        if MODELS[name] and seed == options.seeds[0]:
            keras_mtl.plot_sharing(model, options.folder / "sharing.png")
        right = {task: 100 * values[-1] for task, values in found.items()}
        until = steps_until(found["answer"], ENOUGH, steps // epochs)
        curves = {f"{task} curve": 100 * np.array(values) for task, values in found.items()}
        return {**right, "until": until, **curves, "parameters": model.count_params()}

    along = {f"{task} curve": task for task in TASKS}
    how = {"reference": "with places", "gain": False, "along": along}
    how |= {"axes": {"xlabel": "step", "every": steps / epochs, "ylabel": "right, %"}}
    results = study(run, options, TASKS, title=f"Right after {steps} steps, %", **how)
    for name, found in results.items():
        until = f"{min(found['until']):.0f} to {max(found['until']):.0f}".replace("inf", "never")
        console.print(f"{name}: {until} steps until {ENOUGH:.0%} of the answers are right")


if __name__ == "__main__":
    main()
