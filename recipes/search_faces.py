"""Two kinds of tasks on drawn faces: does search find how to share, at one budget of parameters?

About forty minutes on two cores, three with --quick; downloads nothing, but draws 9,000 faces once.

Every face says whether it smiles and which of 13 mouths it has; the first kind of task is what is there. In 1,500 of
6,500 faces one of three places is marked, by turns: the eyes, the nose or the corners of the mouth. That is the second
kind, where things are. The three places follow from one pose, and the smile from the mouth: tasks of one kind should
share, and whether both kinds should is the question.

The search is over nine trees: all tasks share none, two or all of the four stages, and from there on each kind goes on
together or parts. Every candidate has the same number of parameters, up to rounding: where less is shared, the stages
are narrower. All are tried, each with two seeds, and the best mean delta_m on validation faces counts, against columns
that share nothing. What was found, all sharing and no sharing are then trained anew with other seeds, and tested once.

What it can show: whether the tree that was found beats both extremes here, at equal parameters, epochs and learning
rate. What it cannot: that it would elsewhere, or that search finds the kinds by itself, since they are given to it.

    python recipes/search_faces.py [--quick] [--seeds 100:105]
"""

from functools import partial

from common import command_line, console, may_state, progress

import keras
import keras_tuner
import numpy as np
from data.faces import FEW, SPLITS, drawn_faces

import keras_mtl
from keras_mtl import tuning

CLASSES = {"smile": 2, "mouth": 13}
PLACES = {"eyes": slice(0, 4), "nose": slice(4, 6), "corners": slice(6, 10)}  # of the landmarks' numbers
TASKS = (*CLASSES, *PLACES)
METRICS = {task: "accuracy" if task in CLASSES else "mae" for task in TASKS}
ROWS, COLUMNS = slice(22, 62), slice(12, 52)  # of the picture: eyes, nose and mouth, however the face is turned
MARKED = 1500
STAGES, EXECUTIONS = 4, 2
PARAMETERS = 20_000
BATCH, EPOCHS, LEARNING_RATE = 64, 10, 2e-3  # a fifth of the rate in the last third of the steps


def face_data(quick):
    """Dict from split to cut pictures and labels; in training, places are NaN where they are not marked."""
    data = drawn_faces(("landmarks", *CLASSES), FEW if quick else SPLITS)
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
    return [[list(TASKS)]] * joint + [groups] * (STAGES - joint)


TREES = {f"all share {STAGES} stages": tree(STAGES, False, False)}
for joint in (2, 0):
    TREES |= {
        f"all share {joint} stages, then both kinds go on": tree(joint, True, True),
        f"all share {joint} stages, then classes go on": tree(joint, True, False),
        f"all share {joint} stages, then places go on": tree(joint, False, True),
        f"all share {joint} stages, then all part": tree(joint, False, False),
    }


def sharing(hp):
    chosen = hp.Choice("tree", list(TREES))
    return tuning.SharingChoice("branched_sharing", {"branches": TREES[chosen]})


def stages(width):
    layers = keras.layers

    def convolution(n, *size, **options):
        return layers.Conv2D(max(1, round(width * n)), *size, padding="same", activation="relu", **options)

    return [
        convolution(1, 5, strides=2),
        [convolution(2, 3), layers.MaxPooling2D()],
        [convolution(4, 3), layers.MaxPooling2D()],
        [layers.Flatten(), layers.Dense(max(1, round(8 * width)), activation="relu")],
    ]


def heads():
    sizes = CLASSES | {place: numbers.stop - numbers.start for place, numbers in PLACES.items()}
    return {task: keras.layers.Dense(size) for task, size in sizes.items()}


def compile_options(faces_in_training, epochs):
    steps = epochs * -(-faces_in_training // BATCH)
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([2 * steps // 3], [LEARNING_RATE, LEARNING_RATE / 5])
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return {
        "loss": {task: cross_entropy if task in CLASSES else "mse" for task in TASKS},
        "metrics": {task: [metric] for task, metric in METRICS.items()},
        "missing": dict.fromkeys(PLACES, "nan"),
        "optimizer": keras.optimizers.Adam(rates),
    }


def choice(depth):
    """Hard sharing of so many stages."""
    return tuning.SharingChoice("hard_sharing", {"shared_depth": depth})


class Candidates:
    """Models of one number of parameters, up to rounding: where less is shared, the stages are narrower.

    Args:
        shape: Shape of an input.
        stages: Function of a width.
        heads: Function that makes the heads.
        compiled: Function that makes the arguments of `compile`.
        parameters: Integer. How many.
        width: Float. Where looking for a width begins.
        rounds: Integer. How many widths are tried.
    """

    def __init__(self, shape, stages, heads, compiled, parameters, width, rounds):
        self.shape, self.stages, self.heads, self.compiled = shape, stages, heads, compiled
        self.parameters, self.width, self.rounds, self.widths = parameters, width, rounds, {}

    def built(self, chosen, width):
        return chosen.build(keras.Input(self.shape), self.stages(width), self.heads())

    def width_of(self, chosen):
        """The width of which the number of parameters, which grows with its square, comes closest."""
        if (key := repr(chosen)) not in self.widths:
            width, counts = self.width, {}
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

    def hypermodel(self, sharing, baselines, **options):
        """Models whose sharing a tuner chooses; the goal is delta_m over baselines."""
        return tuning.SharingHyperModel(
            keras.Input(self.shape),
            stages=lambda hp: self.stages(self.width_of(sharing(hp))),
            heads=self.heads(),
            compile={**self.compiled(), "delta_m": baselines},
            sharing=sharing,
            **options,
        )


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


def baseline_means(candidates, data, metrics, folder, epochs):
    """Validation scores of columns that share nothing, kept in a file for a search that goes on."""
    return keras_mtl.analysis.compare(
        {"all shared": lambda: candidates.model(choice(4))},
        data["train"],
        baselines=lambda: candidates.model(choice(0)),
        metrics=metrics,
        test=data["validation"],
        seeds=1,
        directory=folder / "baselines",
        batch_size=BATCH,
        epochs=epochs,
    ).baseline_means


def test_found(found, candidates, front, data, metrics, options):
    """Trains and tests what was found, all sharing and no sharing, with seeds that the search has not seen."""
    front.print()
    front.plot(options.folder / "front.png")
    report = keras_mtl.analysis.compare(
        {"found": lambda: candidates.model(found), "all shared": lambda: candidates.model(choice(4))},
        data["train"],
        baselines=lambda: candidates.model(choice(0)),
        metrics=metrics,
        test=data["test"],
        epochs=options.epochs,
        seeds=options.seeds,
        directory=options.folder / "tests" / f"trial_{front.trials[0]['trial']}",
        batch_size=BATCH,
    )
    report.print()
    report.plot(options.folder / "results.png")
    report.to_json(options.folder / "results.json")
    if not candidates.model(found).shared_variables:
        console.print("What was found shares nothing: it is the single-task models, and cannot beat them.")
    elif may_state(options):
        gains = zip(*(report.delta_m(name) for name in ("found", "all shared")), strict=True)
        beats = sum(own > 0 and own > other for own, other in gains)
        console.print(
            f"What was found beats all sharing, and the mean of no sharing, with {beats} of {len(options.seeds)} seeds."
        )
    console.print(f"Pictures: {options.folder}; trials: tensorboard --logdir {options.folder / 'logs'}", soft_wrap=True)


def main():
    options = command_line(__file__, __doc__, seeds="100:105", epochs=(EPOCHS, 1))
    data, trials = face_data(options.quick), 2 if options.quick else len(TREES)
    compiled = partial(compile_options, len(data["train"][0]), options.epochs)
    candidates = Candidates((40, 40, 3), stages, heads, compiled, PARAMETERS, 3.0, 5)
    baselines = baseline_means(candidates, data, METRICS, options.folder, options.epochs)
    hypermodel = candidates.hypermodel(sharing, baselines)
    keras.utils.set_random_seed(1)  # of all trials: each training has other initial weights
    how = {"max_trials": trials, "executions_per_trial": EXECUTIONS, "directory": options.folder}
    tuner = keras_tuner.GridSearch(hypermodel, tuning.objective(baselines), project_name="trials", **how)
    total = (trials - len(tuner.oracle.end_order)) * EXECUTIONS
    fit = {"epochs": options.epochs, "batch_size": BATCH, "validation_data": data["validation"]}
    run_trials(tuner, total, options.folder / "logs", data["train"], **fit)
    (best,) = tuner.get_best_hyperparameters()
    console.print(f"Found: {best['tree']}; models have {PARAMETERS:,} parameters, up to rounding.")
    test_found(sharing(best), candidates, tuning.pareto_front(tuner), data, METRICS, options)


if __name__ == "__main__":
    main()
