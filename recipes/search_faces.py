"""Tasks on drawn faces: does search find how they share, at one budget of parameters?

About forty minutes on two cores for either set of tasks, three with --quick; downloads nothing, but draws 9,000 faces.

kinds: every face says whether it smiles and which of 13 mouths it has; the first kind of task is what is there. In
1,500 of 6,500 faces one of three places is marked, by turns: the eyes, the nose or the corners of the mouth. That is
the second kind, where things are. The three places follow from one pose, and the smile from the mouth: tasks of one
kind should share, and whether both kinds should is the question. Nine trees are tried, each with two seeds: all tasks
share none, two or all of the four stages, and from there on each kind goes on together or parts.

attributes: skin, glasses and smile, of 32 x 32 points; 15 random trials of hard sharing, trees and cross-stitch.

Every candidate has the same number of parameters, up to rounding: where less is shared, the stages are narrower. The
best delta_m on validation faces counts, against columns that share nothing. What was found, all sharing and no sharing
are then trained anew with other seeds, and tested once.

What it can show: whether what was found beats both extremes here, at equal parameters, epochs and learning rate. What
it cannot: that it would elsewhere, or that search finds the kinds by itself, since they are given to it.

    python recipes/search_faces.py [--quick] [--tasks attributes] [--trials 15] [--workers 2] [--seeds 100:105]
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from common import command_line, console, convolutions, may_state, progress

import keras
import keras_tuner
import numpy as np
from data.faces import FEW, SPLITS, drawn_faces
from keras import layers

import keras_mtl
from keras_mtl import tuning

CLASSES = {"smile": 2, "mouth": 13}
PLACES = {"eyes": slice(0, 4), "nose": slice(4, 6), "corners": slice(6, 10)}  # of the landmarks' numbers
ATTRIBUTES = {"skin": 7, "glasses": 2, "smile": 2}
ROWS, COLUMNS = slice(22, 62), slice(12, 52)  # of the picture: eyes, nose and mouth, however the face is turned
MARKED = 1500
STAGES = 4
BATCH = 64


@dataclass
class Problem:
    """Tasks, and models of one number of parameters, up to rounding: where less is shared, the stages are narrower."""

    data: dict  # from split to pictures and labels
    metrics: dict  # from task to the metric that counts
    stages: Callable  # of a width
    sizes: dict  # from task to the units of its head
    compiled: Callable  # makes the arguments of `compile`
    sharing: Callable  # from hyperparameters to a way to share
    parameters: int
    start: float  # where looking for a width begins
    rounds: int  # how many widths are tried
    tuner: Callable
    trials: int
    epochs: int
    seed: int | None = None  # of the initial weights of all trials; with `None` each training has others
    widths: dict = field(default_factory=dict)

    def heads(self):
        return {task: layers.Dense(size) for task, size in self.sizes.items()}

    def inputs(self):
        return keras.Input(self.data["train"][0].shape[1:])

    def built(self, chosen, width):
        return chosen.build(self.inputs(), self.stages(width), self.heads())

    def width_of(self, chosen):
        """The width of which the number of parameters, which grows with its square, comes closest."""
        if (key := repr(chosen)) not in self.widths:
            width, counts = self.start, {}
            for _ in range(self.rounds):
                counts[width] = self.built(chosen, width).count_params()
                width *= (self.parameters / counts[width]) ** 0.5
            self.widths[key] = min(counts, key=lambda width: abs(counts[width] - self.parameters))
        return self.widths[key]

    def model(self, chosen):
        """The compiled model of a way to share."""
        model = self.built(chosen, self.width_of(chosen))
        model.compile(**self.compiled())
        return model

    def stages_of(self, hp):
        width = self.width_of(self.sharing(hp))
        if self.seed is not None:  # again, whatever was built to find the width
            keras.utils.set_random_seed(self.seed)
        return self.stages(width)

    def tuner_of(self, baselines, folder):
        """A tuner that chooses the sharing; the goal is delta_m over baselines."""
        hypermodel = tuning.SharingHyperModel(
            self.inputs(),
            stages=self.stages_of,
            heads=self.heads(),
            compile={**self.compiled(), "delta_m": baselines},
            sharing=self.sharing,
            seed=self.seed,
        )
        how = {"max_trials": self.trials, "directory": folder, "project_name": "trials"}
        if self.seed is None:
            keras.utils.set_random_seed(1)
        return self.tuner(hypermodel, tuning.objective(baselines), **how)


def marked_faces(splits):
    """Dict from split to cut pictures and labels; in training, places are NaN where they are not marked."""
    data = drawn_faces(("landmarks", *CLASSES), splits)
    marks = data["train"][1]["landmarks"]
    mean, deviation = marks.mean(axis=0), marks.std(axis=0)
    cut = {}
    for split, (pictures, labels) in data.items():
        scaled = (labels.pop("landmarks") - mean) / deviation
        labels |= {place: scaled[:, numbers].copy() for place, numbers in PLACES.items()}
        cut[split] = (pictures[:, ROWS, COLUMNS], labels)
    labels = cut["train"][1]
    marked = np.random.default_rng(0).integers(len(PLACES), size=len(cut["train"][0]))
    marked[MARKED:] = -1
    for index, place in enumerate(PLACES):
        labels[place][marked != index] = np.nan
    return cut


def tree(joint, classes_go_on, places_go_on):
    """All tasks share the first stages; then those of a kind go on together, or each alone."""
    groups = []
    for kind, together in ((CLASSES, classes_go_on), (PLACES, places_go_on)):
        groups += [list(kind)] if together else [[task] for task in kind]
    return [[[*CLASSES, *PLACES]]] * joint + [groups] * (STAGES - joint)


TREES = {f"all share {STAGES} stages": tree(STAGES, False, False)}
for joint in (2, 0):
    TREES |= {
        f"all share {joint} stages, then both kinds go on": tree(joint, True, True),
        f"all share {joint} stages, then classes go on": tree(joint, True, False),
        f"all share {joint} stages, then places go on": tree(joint, False, True),
        f"all share {joint} stages, then all part": tree(joint, False, False),
    }


def kinds(quick, trials, epochs):
    """The problem of two kinds of tasks."""
    data, epochs = marked_faces(FEW if quick else SPLITS), epochs or 10
    metrics = dict.fromkeys(CLASSES, "accuracy") | dict.fromkeys(PLACES, "mae")

    def stages(width):
        def convolution(n, *size, **options):
            return layers.Conv2D(max(1, round(width * n)), *size, padding="same", activation="relu", **options)

        return [
            convolution(1, 5, strides=2),
            [convolution(2, 3), layers.MaxPooling2D()],
            [convolution(4, 3), layers.MaxPooling2D()],
            [layers.Flatten(), layers.Dense(max(1, round(8 * width)), activation="relu")],
        ]

    def compiled():
        steps = epochs * -(-len(data["train"][0]) // BATCH)
        rates = keras.optimizers.schedules.PiecewiseConstantDecay([2 * steps // 3], [2e-3, 4e-4])
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return {
            "loss": {task: cross_entropy if task in CLASSES else "mse" for task in metrics},
            "metrics": {task: [metric] for task, metric in metrics.items()},
            "missing": dict.fromkeys(PLACES, "nan"),
            "optimizer": keras.optimizers.Adam(rates),
        }

    def sharing(hp):
        return tuning.SharingChoice("branched_sharing", {"branches": TREES[hp.Choice("tree", list(TREES))]})

    sizes = CLASSES | {place: numbers.stop - numbers.start for place, numbers in PLACES.items()}
    size = {"parameters": 20_000, "start": 3.0, "rounds": 5}
    search = {"tuner": partial(keras_tuner.GridSearch, executions_per_trial=2), "epochs": epochs}
    search["trials"] = trials or (2 if quick else len(TREES))
    return Problem(data, metrics, stages, sizes, compiled, sharing, **size, **search)


def attributes(quick, trials, epochs):
    """The problem of three attributes."""

    def stages(width):
        filters = [max(1, round(width * n)) for n in (1, 2, 4)]
        return convolutions(*filters, units=max(1, round(8 * width)))

    def compiled():
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": {task: ["accuracy"] for task in ATTRIBUTES},
            "optimizer": keras.optimizers.Adam(1e-3),
        }

    def sharing(hp):
        families = ["hard_sharing", "branched_sharing", "cross_stitch"]
        return tuning.sharing_space(hp, STAGES, ATTRIBUTES, families=families)

    data, metrics = drawn_faces(ATTRIBUTES, FEW if quick else SPLITS, side=32), dict.fromkeys(ATTRIBUTES, "accuracy")
    size = {"parameters": 40_000, "start": 6.0, "rounds": 4}
    search = {"tuner": partial(keras_tuner.RandomSearch, seed=2), "epochs": epochs or 6, "seed": 0}
    search["trials"] = trials or (4 if quick else 15)
    return Problem(data, metrics, stages, ATTRIBUTES, compiled, sharing, **size, **search)


PROBLEMS = {"kinds": kinds, "attributes": attributes}


class TrialProgress(keras.callbacks.Callback):
    """Moves a progress bar by one with every training of a search."""

    def __init__(self, bar, row):
        super().__init__()
        self.bar, self.row = bar, row

    def __deepcopy__(self, memo):
        return self  # tuners copy callbacks, and a bar is one

    def on_train_end(self, logs=None):
        self.bar.advance(self.row)


def run_trials(tuner, total, logs, data, **options):
    """Runs a search under a progress bar, with TensorBoard's logs (and HParams)."""
    board = keras.callbacks.TensorBoard(logs, write_graph=False)
    with progress("trainings") as bar:
        row = bar.add_task(logs.name, total=total)
        tuner.search(*data, callbacks=[board, TrialProgress(bar, row)], verbose=0, **options)


def choice(depth):
    """Hard sharing of so many stages."""
    return tuning.SharingChoice("hard_sharing", {"shared_depth": depth})


def compared(problem, candidates, **options):
    """Ways to share beside columns that share nothing, by `compare`."""
    return keras_mtl.analysis.compare(
        {name: partial(problem.model, chosen) for name, chosen in candidates.items()},
        problem.data["train"],
        baselines=lambda: problem.model(choice(0)),
        metrics=problem.metrics,
        epochs=problem.epochs,
        batch_size=BATCH,
        **options,
    )


def search(problem, folder, workers, arguments):
    """The search, in this process or in those that this one starts."""
    validation = problem.data["validation"]
    how = {"test": validation, "seeds": 1, "directory": folder / "baselines"}  # kept, for a search that goes on
    tuner = problem.tuner_of(compared(problem, {"all shared": choice(STAGES)}, **how).baseline_means, folder)
    options = {"epochs": problem.epochs, "batch_size": BATCH, "validation_data": validation}
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        if problem.seed is not None:  # an estimate draws random numbers, which trials without a seed would miss
            console.print(f"Search: {tuning.estimate(tuner, *problem.data['train'], **options)}")
        if workers:
            tuning.launch([sys.executable, __file__, *arguments], workers, logs=folder / "workers")
            tuner.oracle.reload()  # what the chief has left in the folder
            return tuner
    left = problem.trials - len(getattr(tuner.oracle, "end_order", ()))
    run_trials(tuner, left * tuner.executions_per_trial, folder / "logs", problem.data["train"], **options)
    return tuner


def test_found(found, problem, front, options, folder):
    """Trains and tests what was found, all sharing and no sharing, with seeds that the search has not seen."""
    front.print()
    front.plot(folder / "front.png")
    directory = folder / "tests" / f"trial_{front.trials[0]['trial']}"
    how = {"test": problem.data["test"], "seeds": options.seeds, "directory": directory}
    report = compared(problem, {"found": found, "all shared": choice(STAGES)}, **how)
    report.print()
    report.plot(folder / "results.png")
    report.to_json(folder / "results.json")
    if not problem.model(found).shared_variables:
        console.print("What was found shares nothing: it is the single-task models, and cannot beat them.")
    elif may_state(options):
        gains = zip(*(report.delta_m(name) for name in ("found", "all shared")), strict=True)
        beats = sum(own > 0 and own > other for own, other in gains)
        console.print(
            f"What was found beats all sharing, and the mean of no sharing, with {beats} of {len(options.seeds)} seeds."
        )
    console.print(f"Pictures: {folder}; trials: tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


def main():
    started = "KERASTUNER_ORACLE_IP" in os.environ  # by another of this script, whose folder stays as it is
    options = command_line(
        __file__,
        __doc__,
        seeds="100:105",
        epochs=(None, 1),
        fresh=not started,
        tasks=(tuple(PROBLEMS), "on faces"),
        trials=(0, "of the search; 0: 9 of kinds, 15 of attributes"),
        workers=(0, "search with a chief and so many workers"),
    )
    folder = options.folder / options.tasks
    problem = PROBLEMS[options.tasks](options.quick, options.trials, options.epochs)
    tuner = search(problem, folder, options.workers, sys.argv[1:])
    if started:
        return
    (best,) = tuner.get_best_hyperparameters()
    found = problem.sharing(best)
    said = best.values.get("tree") or f"{found.family}, {found.options}"
    console.print(f"Found: {said}; models have {problem.parameters:,} parameters, up to rounding.")
    test_found(found, problem, tuning.pareto_front(tuner), options, folder)


if __name__ == "__main__":
    main()
