"""OmniNet on three tasks at once: questions about pictures, motion in films, and tags of words.

One core reads pictures, films and text (Pramanik et al., 2019). Three generated tasks:

- answer: a picture of 3 x 3 cells with one object of each color, and the question which shape a color has;
- motion: five frames in which one object moves up, down, left or right;
- tags: sequences of 8 words of 15, four of which take a tag that depends on the tag before, told tag by tag.

What it shows: that the core of one model learns all three, and, by leaving it out, what the attention over places is
worth: how right the tasks get, and after how many steps 97 % of the answers are. What it does not: tasks of this size
say nothing about the data sets of the paper.

    python recipes/omninet_tasks.py [--quick] [--seeds 5] [--steps 1500]

The picture of the results and logs for TensorBoard go to runs/omninet_tasks/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from common import ProgressOfFit, console, mean_and_spread, output_folder, progress
from data.shapes import COLORS, RADII, SHAPES, coverage
from rich.table import Table

import keras_mtl

FEATURES, LENGTH, WORDS, TAGS = 64, 8, 15, 4
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
TASKS = ("answer", "motion", "tags")
BATCH = {"answer": 128, "motion": 32, "tags": 32}
ENOUGH = 0.97  # right answers by which learning is called done


def in_cells(pictures):
    """Pictures `(..., 30, 30, 3)` as `(..., 9, 309)`: the pixels of each cell, and ones that say which cell it is."""
    around = pictures.shape[:-3]
    cells = pictures.reshape(*around, 3, 10, 3, 10, 3).swapaxes(-4, -3).reshape(*around, 9, 300)
    return np.concatenate([cells, np.broadcast_to(np.eye(9, dtype="float32"), (*around, 9, 9))], axis=-1)


def paint(rng, color):
    """A color, not quite pure."""
    return np.clip(np.eye(3)[color] + rng.uniform(-0.2, 0.2, 3), 0, 1)


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
    keras.utils.clear_session()
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

    class Accuracy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for task, part in tests.items():
                found[task].append(accuracy(model, task, *part))

    found = {task: [] for task in TASKS}
    model.fit(mixture, epochs=epochs, shuffle=False, callbacks=[Accuracy(), *callbacks], verbose=0)
    return model, found


def accuracy(model, task, x, y):
    """Share of right answers; tags are told one by one, each with those that were told before."""
    if task == "tags":
        return float((keras_mtl.multimodal.decode(model, task, x, batch_size=1800) == y).mean())
    return float((model.task_model(task).predict(x, batch_size=1800, verbose=0).argmax(-1) == y).mean())


def steps_until(values, steps):
    """Steps after which the share of right answers is `ENOUGH` for the first time; infinite where it never is."""
    reached = np.flatnonzero(np.array(values) >= ENOUGH)
    return (reached[0] + 1) * steps // len(values) if len(reached) else np.inf


def draw(curves, steps, path):
    """Accuracy over steps, mean and range over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axis, task in zip(figure.subplots(1, len(TASKS), sharey=True), TASKS, strict=True):
        for i, (name, runs) in enumerate(curves.items()):
            values = 100 * np.array([run[task] for run in runs])
            at = np.linspace(0, steps, values.shape[1] + 1)[1:]
            axis.plot(at, values.mean(0), color=f"C{i}", label=name)
            axis.fill_between(at, values.min(0), values.max(0), color=f"C{i}", alpha=0.15)
        axis.set_title(task)
        axis.set_xlabel("step")
    figure.axes[0].set_ylabel("right, %: mean and range over seeds")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, ten steps: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    steps, sizes, epochs = (10, (300, 100, 100), 1) if options.quick else (options.steps, (12000, 4000, 4000), 15)
    folder = output_folder("omninet_tasks-quick" if options.quick else "omninet_tasks")
    curves = {"with places": [], "without places": []}
    with progress() as bar:
        row = bar.add_task("", total=len(seeds) * len(curves) * epochs)
        for seed in seeds:
            for name in curves:
                logs = keras.callbacks.TensorBoard(folder / "logs" / f"{name.replace(' ', '_')}-{seed}")
                shown = ProgressOfFit(bar, row, f"{name}, seed {seed}")
                model, found = train(seed, steps, name == "with places", sizes, [shown, logs], epochs)
                curves[name].append(found)
                right = ", ".join(f"{task} {100 * values[-1]:.1f}" for task, values in found.items())
                console.print(f"{name}, seed {seed}: {right}")
                if name == "with places" and seed == seeds[0]:
                    console.print(f"Parameters: {model.count_params():,}")
                    keras_mtl.plot_sharing(model, folder / "sharing.png")
    table = Table(title=f"Right after {steps} steps, %, {len(seeds)} seeds", title_justify="left")
    table.add_column("attention")
    for task in TASKS:
        table.add_column(task, justify="right")
    table.add_column(f"steps until {ENOUGH:.0%} of answers", justify="right")
    for name, runs in curves.items():
        right = [mean_and_spread([100 * run[task][-1] for run in runs]) for task in TASKS]
        until = sorted(steps_until(run["answer"], steps) for run in runs)
        table.add_row(name, *right, f"{until[0]:.0f} to {until[-1]:.0f}".replace("inf", "never"))
    console.print(table)
    draw(curves, steps, folder / "accuracy.png")
    console.print(f"Pictures: {folder}; logs: tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
