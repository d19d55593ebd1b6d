"""Two kinds of tasks on drawn faces: does search find how to share, at one budget of parameters?

Forty minutes on two cores, three minutes with --quick; downloads nothing, but draws 9,000 faces once.

Every face says whether it smiles and which of 13 mouths it has; the first kind of task is what is there. In 1,500 of
6,500 faces one of three places is marked, by turns: the eyes, the nose or the corners of the mouth. That is the second
kind, where things are, with some 500 labels for each place. The three places follow from one pose, and the smile from
the mouth (recipes/data/faces.py). So tasks of one kind should share, and whether both kinds should is the question.

The search is over nine trees: all tasks share none, two or all of the four stages, and from there on each kind goes on
together or parts. No sharing and all sharing are two of them. Every candidate has the same number of parameters, up to
rounding: where less is shared, the stages are narrower. All are tried, each with two seeds, and the best mean delta_m
on validation faces counts, against columns that share nothing. What was found, all sharing and no sharing are then
trained anew with seeds that the search has not seen, and tested once.

What it can show: whether the tree that was found beats both extremes here, at equal parameters, epochs and learning
rate. What it cannot: that it would elsewhere, or that search finds the kinds by itself, since they are given to it.
Which tasks there are, and how many places are marked, was chosen while looking at the test faces, with the tree of two
columns, all sharing and no sharing; with twice as many marks, all sharing was as good for the one seed that was tried.

    python recipes/search_faces.py [--quick] [--seeds 100:105]

Logs for TensorBoard (with HParams), the trials and pictures go to runs/search_faces/.
"""

from common import command_line, console, fitting_width, may_state, progress, rendering

import keras
import keras_tuner
import numpy as np
from data.faces import SPLITS, faces

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
    splits = {"train": 400, "validation": 100, "test": 100} if quick else SPLITS
    data = faces(("landmarks", *CLASSES), splits, track=rendering)
    marks = data["train"][1]["landmarks"]
    mean, deviation = marks.mean(axis=0), marks.std(axis=0)
    cut = {}
    for split, (pictures, labels) in data.items():
        scaled = (labels.pop("landmarks") - mean) / deviation
        labels |= {place: scaled[:, numbers].copy() for place, numbers in PLACES.items()}
        cut[split] = (pictures[:, ROWS, COLUMNS], labels)
    labels = cut["train"][1]
    marked = np.random.default_rng(0).integers(len(PLACES), size=splits["train"])
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


def face_input():
    return keras.Input((40, 40, 3))


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
    return {task: keras.layers.Dense(CLASSES[task] if task in CLASSES else outputs(task)) for task in TASKS}


def outputs(place):
    return PLACES[place].stop - PLACES[place].start


def choice(depth):
    """Hard sharing of so many stages."""
    return tuning.SharingChoice("hard_sharing", {"shared_depth": depth})


WIDTHS: dict = {}


def width_of(chosen):
    """The width with which this way of sharing has about `PARAMETERS` parameters."""

    def count(width):
        return chosen.build(face_input(), stages(width), heads()).count_params()

    if (key := repr(chosen)) not in WIDTHS:
        WIDTHS[key] = fitting_width(count, PARAMETERS, 3.0, rounds=5)
    return WIDTHS[key]


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


def face_model(chosen, data, epochs):
    model = chosen.build(face_input(), stages(width_of(chosen)), heads())
    model.compile(**compile_options(len(data["train"][0]), epochs))
    return model


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


def baseline_means(model_of, data, metrics, folder, **options):
    """Validation scores of columns that share nothing, kept in a file: a search that goes on does not train them again.

    Args:
        model_of: Function from a `SharingChoice` to a compiled model of four stages.
        data: Dict from split to data.
        metrics: Dict from task to metric.
        folder: Path.
        **options: Further arguments of `compare`.
    """
    return keras_mtl.analysis.compare(
        {"all shared": lambda: model_of(choice(4))},
        data["train"],
        baselines=lambda: model_of(choice(0)),
        metrics=metrics,
        test=data["validation"],
        seeds=1,
        directory=folder / "baselines",
        batch_size=BATCH,
        **options,
    ).baseline_means


def test_found(found, model_of, front, data, metrics, options, epochs):
    """Trains and tests what was found, all sharing and no sharing, with seeds that the search has not seen."""
    front.print()
    front.plot(options.folder / "front.png")
    report = keras_mtl.analysis.compare(
        {"found": lambda: model_of(found), "all shared": lambda: model_of(choice(4))},
        data["train"],
        baselines=lambda: model_of(choice(0)),
        metrics=metrics,
        test=data["test"],
        epochs=epochs,
        seeds=options.seeds,
        directory=options.folder / "tests" / f"trial_{front.trials[0]['trial']}",
        batch_size=BATCH,
    )
    report.print()
    report.plot(options.folder / "results.png")
    report.to_json(options.folder / "results.json")
    if not model_of(found).shared_variables:
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
    data, epochs, trials = face_data(options.quick), options.epochs, 2 if options.quick else len(TREES)
    baselines = baseline_means(lambda c: face_model(c, data, epochs), data, METRICS, options.folder, epochs=epochs)
    hypermodel = tuning.SharingHyperModel(
        face_input(),
        stages=lambda hp: stages(width_of(sharing(hp))),
        heads=heads(),
        compile={**compile_options(len(data["train"][0]), epochs), "delta_m": baselines},
        sharing=sharing,
    )
    keras.utils.set_random_seed(1)  # of all trials: each training has other initial weights
    tuner = keras_tuner.GridSearch(
        hypermodel,
        tuning.objective(baselines),
        max_trials=trials,
        executions_per_trial=EXECUTIONS,
        directory=options.folder,
        project_name="trials",
    )
    total = (trials - len(tuner.oracle.end_order)) * EXECUTIONS
    fit = {"epochs": epochs, "batch_size": BATCH, "validation_data": data["validation"]}
    run_trials(tuner, total, options.folder / "logs", data["train"], **fit)
    (best,) = tuner.get_best_hyperparameters()
    console.print(f"Found: {best['tree']}; models have {PARAMETERS:,} parameters, up to rounding.")
    front = tuning.pareto_front(tuner)
    test_found(sharing(best), lambda c: face_model(c, data, epochs), front, data, METRICS, options, epochs)


if __name__ == "__main__":
    main()
