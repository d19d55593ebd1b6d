"""One task starves two others: how the dashboard shows it, and what repairs it.

About half an hour on two cores, two minutes with --quick; downloads nothing, but draws 9,000 faces once.

Drawn faces, 32 pixels wide: does the face smile, does it wear glasses, and where are eyes, nose and mouth? The last
task's loss is in squared pixels of the drawing, as one would write it down at first: it starts a thousand times above
the others. One trunk is trained as it is ("together"), with `scale_invariant` weights ("balanced"), also with one
shared stage, and with landmarks of mean 0 and variance 1 inside their head ("standardized"). Each has ConflictMonitor,
TensorBoard and TaskBoard in runs/starved_task/board/; docs/guide/dashboard.md reads what they write. The single-task
models are standardized too, so that what standardizing gives does not count as a gain of sharing.

What it can show: how starving looks, and which repairs work here. What it cannot: which weighting or depth is best
elsewhere. No model is trained to the end, and the repairs were chosen while looking at one seed's validation faces.

    python recipes/starved_task.py [--quick] [--seeds 5] [--epochs 10]
"""

import argparse
import shutil

from common import SINGLE, command_line, compared, console, convolutions, report, summarize, trained

import keras
from data.arrays import rows_of
from data.faces import FEW, SIDE, SPLITS, drawn_faces

import keras_mtl

TASKS = {"smile": 2, "glasses": 2, "landmarks": 10}  # classes, or numbers
METRICS = {"smile": "accuracy", "glasses": "accuracy", "landmarks": "mae"}
MODELS = {  # single-task models are the columns of the first
    "standardized": {"shared_depth": 4, "standardized": True},
    "together": {"shared_depth": 4},
    "balanced": {"shared_depth": 4, "weighting": "scale_invariant"},
    "balanced, one stage": {"shared_depth": 1, "weighting": "scale_invariant"},
}
TRAINED = 4000
BATCH = 64


def build(landmarks, shared_depth, weighting="equal", standardized=False, delta_m=None):
    """One of `MODELS`; `landmarks` are those to train on, whose mean and variance "standardized" takes."""
    layers = keras.layers
    heads = {task: [layers.Dense(size)] for task, size in TASKS.items()}
    weights = dict.fromkeys(TASKS, 1.0)
    if standardized:
        # Back to pixels, so that loss and metric stay in the units of all other models.
        mean, variance = landmarks.mean(0).tolist(), landmarks.var(0).tolist()
        heads["landmarks"].append(layers.Normalization(mean=mean, variance=variance, invert=True))
        weights["landmarks"] = 1.0 / float(landmarks.var(0).mean())
    inputs, stages = keras.Input((SIDE // 2, SIDE // 2, 3)), convolutions(8, 16, 32, units=64)
    model = keras_mtl.hard_sharing(inputs, stages, heads, shared_depth=shared_depth)
    classes = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss={"smile": classes, "glasses": classes, "landmarks": "mse"},
        metrics={task: [metric] for task, metric in METRICS.items()},
        loss_weights=weights,
        weighting=weighting,
        delta_m=delta_m,
    )
    return model


def write_boards(options, data, baselines):
    """Trains every model once under the dashboard's callbacks, and prints what the dashboards show at the end."""
    folder = options.folder / "board"
    shutil.rmtree(folder, ignore_errors=True)
    probe = rows_of(data["train"], slice(128))

    def run(name, seed, callbacks):
        logs = folder / name.replace(",", "").replace(" ", "_")
        monitor = keras_mtl.callbacks.ConflictMonitor(*probe, every=20)
        boards = [keras.callbacks.TensorBoard(logs, write_graph=False)]
        boards += [keras_mtl.callbacks.TaskBoard(logs, conflict_monitor=monitor)]
        history = build(data["train"][1]["landmarks"], **MODELS[name], delta_m=baselines).fit(
            *data["train"],
            batch_size=BATCH,
            epochs=options.epochs,
            validation_data=data["validation"],
            validation_batch_size=500,
            callbacks=[monitor, *boards, *callbacks],
            verbose=0,
        )
        last = {log: values[-1] for log, values in history.history.items()}
        scores = {task: last[f"val_{task}_{metric}"] for task, metric in METRICS.items()}
        shares = {f"{task}, share": last[f"{task}_grad_share"] for task in TASKS}
        return {**scores, "delta_m, %": last["val_delta_m"], **shares}

    options = argparse.Namespace(**{**vars(options), "seeds": [0]})
    scores = (*TASKS, "delta_m, %", *(f"{task}, share" for task in TASKS))
    report(trained(run, options, list(MODELS), logs=False), options, scores, title="Validation faces", digits=3)
    console.print("share: how much of the shared layers' update is whose, w |g| / sum w |g|")


def main():
    options = command_line(__file__, __doc__, models=MODELS, epochs=(10, 2))
    data = drawn_faces(TASKS, FEW if options.quick else SPLITS, SIDE // 2)
    for _, labels in data.values():
        labels["landmarks"] = labels["landmarks"] * SIDE  # in pixels of the whole picture
    data["train"] = rows_of(data["train"], slice(TRAINED))
    landmarks = data["train"][1]["landmarks"]
    results, found = compared(
        {name: lambda name=name: build(landmarks, **MODELS[name]) for name in options.models},
        options,
        data["train"],
        METRICS,
        {"landmarks": 1},
        validation=data["validation"],
        test=data["test"],
        batch_size=BATCH,
    )
    scores = {"smile": "smile, %", "glasses": "glasses, %", "landmarks": "landmarks, pixels"}
    how = {"reference": SINGLE, "lower": ("landmarks",), "digits": {"landmarks": 2}}
    summarize(results, options, scores, title="Test faces", **how)
    write_boards(options, data, found.baseline_means)
    console.print(f"Dashboards: tensorboard --logdir {options.folder / 'board'}", soft_wrap=True)


if __name__ == "__main__":
    main()
