"""Skin, glasses and smile of drawn faces: can teachers repair a trunk that loses the smile?

In recipes/faces.py a trunk that serves all three tasks hardly learns the smile, which single-task models get right in
96 of 100 faces. Here single-task models are the teachers, and the same trunk is the student: same pictures, epochs,
batches, optimizer and learning rate, with and without teachers. A hint makes the student's last stage, through a linear
map, say what the last stage of the smile's teacher does.

What it can show: whether soft targets, teacher annealing or a hint repair this negative transfer. What it cannot: that
they would elsewhere. Teachers cost their own training first; no model is trained to the end.

    python recipes/distill_faces.py [--quick] [--seeds 3] [--epochs 6]

Logs for TensorBoard and a picture of the results go to runs/distill_faces/.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import faces as recipe
import keras
import tensorflow as tf
from common import ProgressOfFit, console, output_folder, progress
from data.faces import SPLITS, faces
from rich.progress import track

from keras_mtl.distillation import distill

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

SINGLE, HARD = recipe.SINGLE, "hard sharing"
TASKS = tuple(recipe.CLASSES)
LAST_STAGE = -1 - len(TASKS)  # the layer of a model before its heads


def annealed(student, teachers):
    return distill(student, teachers)


def soft(student, teachers):
    return distill(student, teachers, temperature=2.0, annealing=0.0)


def mixed(student, teachers):
    return distill(student, teachers, temperature=2.0, annealing=0.5)


def hinted(student, teachers):
    smile = teachers["smile"]
    hint = (student.layers[LAST_STAGE].name, smile, smile.layers[-2].name)
    return distill(student, teachers, temperature=2.0, annealing=0.5, hints={"smile_hint": hint})


STUDENTS = {"annealed (BAM)": annealed, "soft targets": soft, "soft + hard": mixed, "soft + hard + hint": hinted}


def train(model, seed, data, epochs, callbacks):
    """As recipes/faces.py does."""
    steps = epochs * -(-len(data["train"][0]) // recipe.BATCH)
    rate = recipe.LEARNING_RATE
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([2 * steps // 3], [rate, rate / 5])
    model.compile(
        keras.optimizers.Adam(rates),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics={task: ["accuracy"] for task in TASKS},
    )
    keras.utils.set_random_seed(seed)  # the same batches for all
    model.fit(
        *data["train"],
        batch_size=recipe.BATCH,
        epochs=epochs,
        validation_data=data["validation"],
        validation_batch_size=500,
        callbacks=callbacks,
        verbose=0,
    )


def run(names, seeds, data, epochs, folder):
    """Trains and tests every model with every seed. Returns a dict from model to dict of lists."""
    results = {name: {key: [] for key in (*TASKS, "seconds")} for name in names}
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(seeds) * epochs)
        for seed in seeds:
            keras.utils.clear_session()
            teachers = {}
            for name in names:
                words = name.replace(" ", "_").replace("+", "and")
                logs = folder / "logs" / words / f"seed{seed}"
                callbacks = [
                    ProgressOfFit(bar, row, f"{name}, seed {seed}"),
                    keras.callbacks.TensorBoard(logs, write_graph=False),
                ]
                keras.utils.set_random_seed(seed)
                model = recipe.build(SINGLE if name == SINGLE else HARD, TASKS)
                start = time.perf_counter()
                trained = STUDENTS[name](model, teachers) if name in STUDENTS else model
                train(trained, seed, data, epochs, callbacks)
                results[name]["seconds"].append(time.perf_counter() - start)
                if name == SINGLE:
                    teachers = {task: model.task_model(task) for task in TASKS}
                scores = recipe.score(model, data["test"])
                for task, value in scores.items():
                    results[name][task].append(value)
                results[name]["parameters"] = model.count_params()
                said = ", ".join(f"{task} {value:.1f}" for task, value in scores.items())
                bar.console.print(f"{name:>{max(map(len, names))}}  seed {seed}: {said}")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few faces, one student, one seed and epoch: that it runs")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: 3)")
    parser.add_argument("--epochs", type=int, help="epochs of each training (default: 6)")
    options = parser.parse_args()
    names = [SINGLE, HARD, *STUDENTS]
    names = [SINGLE, names[-1]] if options.quick else names
    seeds = range(options.seeds or (1 if options.quick else 3))
    epochs = options.epochs or (1 if options.quick else 6)
    splits = {"train": 400, "validation": 100, "test": 100} if options.quick else SPLITS
    folder = output_folder("distill_faces-quick" if options.quick else "distill_faces")

    def show(steps, total):
        return track(steps, "rendering faces, once", total, console=console)

    data = faces(TASKS, splits, track=show)
    results = run(names, seeds, data, epochs, folder)
    recipe.report(results, TASKS, seeds)
    recipe.draw(results, TASKS, data, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)
    console.print(f"Curves:  tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
