"""Is `keras_mtl.advise` right? Beside a full sweep on eight real data sets, and on problems whose answer is planted.

For each data set, ten ways to share that an expert might try are trained whole, with five seeds each, on all training
examples, and tested. Then `advise` is called three times with seeds of its own, each time for a third of the minutes
that this sweep took, and what it picks is looked up in the sweep (or trained like it, where it is not there). Regret is
how far the pick's mean gain on the test is behind the best of the sweep, which nobody knows beforehand; the best of ten
means is lucky too, so regret is overstated. Gains are delta_m over single-task columns.

Planted problems are regressions on hidden features, four for each group of tasks: `advise` should share where all tasks
read the same ones or one has few labels, share nothing in a trunk that is too narrow for two groups, find two groups,
say that a task is starved by scale, and leave a task of pure noise alone. Counted over five seeds, which draw features,
examples, splits and weights anew.

The defaults of `advise` were fixed before. Patients and genes had been looked at while it was written, the other six
data sets had not. What it can show: how often the answer is right on problems of this size. What it cannot: the same
for large data or large networks.

    python recipes/studies/advise.py [--planted] [--data genes,films] [--quick]

An hour on two cores for all data sets, half an hour for `--planted`. Resumable: what was trained is in
runs/studies/advise/, with tables as JSON, the pages of `advise`, and a picture.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras
import numpy as np
import tensorflow as tf
from common import console, delta_m, mean_and_spread, seeds_tell_apart
from data import census_income, digits, faces, home_commands, movielens, qm9, support2, yeast
from data.planted import KINDS, WIDTHS, planted
from keras import layers
from rich.table import Table

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

ALONE = "nothing shared"
EPOCHS, BATCH, SEEDS, CALLS = 15, 64, 5, 3
FOLDER = Path("runs") / "studies" / "advise"


def sweep_of(tasks, stages):
    """Dict from name to builder, its options, weighting and place of gradients: what an expert might try."""
    hard = keras_mtl.hard_sharing
    found = {ALONE: (hard, {"shared_depth": 0}, {}), "all shared": (hard, {}, {})}
    for depth in range(1, stages):
        found[f"{depth} of {stages} stages shared"] = (hard, {"shared_depth": depth}, {})
    for weighting in ("uncertainty", "imtl_l"):
        found[f"all shared, {weighting}"] = (hard, {}, {"weighting": weighting})
    found["all shared, upgrad"] = (hard, {}, {"weighting": "upgrad", "gradients": "features"})
    if tasks <= 4:
        found["cross-stitch"] = (keras_mtl.cross_stitch, {}, {})
    experts = {"shared_experts": 1, "task_experts": 1, "shared_depth": stages // 2}
    found["CGC"] = (keras_mtl.cgc, experts, {})
    found["MMoE"] = (keras_mtl.mmoe, {"experts": 4, "shared_depth": stages // 2}, {})
    return found


def dense(*units):
    return [[layers.Dense(n, activation="relu", name=f"hidden_{i}"), layers.Dropout(0.2)] for i, n in enumerate(units)]


def binary(tasks):
    return (
        {task: layers.Dense(1, activation="sigmoid") for task in tasks},
        dict.fromkeys(tasks, "binary_crossentropy"),
        dict.fromkeys(tasks, "auc"),
    )


def classes(counts):
    return (
        {task: layers.Dense(n, activation="softmax") for task, n in counts.items()},
        dict.fromkeys(counts, "sparse_categorical_crossentropy"),
        dict.fromkeys(counts, "accuracy"),
    )


def some(data, count, seed=0):
    """Some examples, drawn at random."""
    x, y = data
    rows = np.random.default_rng(seed).permutation(len(next(iter(y.values()))))[:count]
    return keras.tree.map_structure(lambda array: array[rows], x), {task: labels[rows] for task, labels in y.items()}


def genes():
    splits = yeast.yeast()
    tasks = {f"f{k}": k for k in range(6)}
    train, test = ((x, {t: y[:, k : k + 1] for t, k in tasks.items()}) for x, y in (splits["train"], splits["test"]))
    return keras.Input((103,)), dense(64, 32), *binary(tasks), train, test


def patients():
    tasks, numbers = ("hospital_death", "dead_180", "charges", "stay"), ("charges", "stay")
    splits = support2.support2(validation=0)
    train, test = ((x, {t: y[t] for t in tasks}) for x, y in (splits["train"], splits["test"]))
    heads, loss, metrics = binary(tasks)
    for task in numbers:
        heads[task], loss[task], metrics[task] = layers.Dense(1), "mse", "mae"
    return keras.Input(train[0].shape[1:]), dense(64, 32), heads, loss, metrics, some(train, 4000), test


def molecules():
    tasks = ("mu", "alpha", "homo", "gap")
    splits = qm9.qm9({"train": 3000, "test": 3000})
    (x, y), (x_test, y_test) = splits["train"], splits["test"]
    train, test = {}, {}
    for task in tasks:
        mean, deviation = y[task].mean(), y[task].std()
        train[task], test[task] = (((part - mean) / deviation).astype("float32") for part in (y[task], y_test[task]))
    heads = {task: layers.Dense(1) for task in tasks}
    both = dict.fromkeys(tasks, "mse"), dict.fromkeys(tasks, "mae")
    return keras.Input(x.shape[1:]), dense(64, 32), heads, *both, (x, train), (x_test, test)


def films():
    splits = movielens.impressions(unwatched=2, validation=0)
    names = ("person", "film", "age", "gender", "occupation")
    sizes = [max(int(splits[s][0][n].max()) for s in ("train", "test")) + 1 for n in names]
    offsets = np.cumsum([0, *sizes[:-1]]).astype("int32")
    parts = []
    for split, count in (("train", 8000), ("test", 8000)):
        x, y = some(splits[split], count)
        parts.append((np.stack([x[n] for n in names], axis=1).astype("int32") + offsets, y))
    stages = [[layers.Embedding(sum(sizes), 8), layers.Flatten()], *dense(32)]
    return keras.Input((len(names),), dtype="int32"), stages, *binary(("watched", "liked")), *parts


def people():
    splits, codes = census_income.census_income(("income", "never_married"), validation=0, rows=6000)
    (x, y), (x_test, y_test) = splits["train"], some(splits["test"], 8000)
    train, test = x["codes"], x_test["codes"]
    stages = [[layers.Embedding(codes, 8), layers.Flatten()], *dense(32)]
    inputs = keras.Input(train.shape[1:], dtype="int32")
    return inputs, stages, *binary(("income", "never_married")), (train, y), (test, y_test)


def small_faces():
    tasks = {name: len(faces.ATTRIBUTES[name]) for name in list(faces.ATTRIBUTES)[:5]}
    parts = faces.faces(tasks, {"train": 2000, "test": 1500})

    def smaller(part):
        pictures, y = part
        return pictures.reshape(-1, 16, 4, 16, 4, 3).mean(axis=(2, 4)).astype("float32"), y

    return (
        keras.Input((16, 16, 3)),
        convolutions(16, 32),
        *classes(tasks),
        *map(smaller, (parts["train"], parts["test"])),
    )


def convolutions(*filters):
    stages = [
        [layers.Conv2D(n, 3, padding="same", activation="relu", name=f"conv_{i}"), layers.MaxPooling2D(2)]
        for i, n in enumerate(filters)
    ]
    return [*stages, [layers.Flatten(), layers.Dense(32, activation="relu", name="hidden")]]


def two_digits():
    parts = digits.two_digits({"train": 3000, "test": 2000})

    def smaller(part):
        pictures, y = part
        return pictures.reshape(-1, 18, 2, 18, 2, 1).mean(axis=(2, 4)).astype("float32"), y

    both = map(smaller, (parts["train"], parts["test"]))
    return keras.Input((18, 18, 1)), convolutions(16, 32), *classes({"left": 10, "right": 10}), *both


def commands():
    found = home_commands.commands(4000)
    words = {word: i + 2 for i, word in enumerate(sorted({w for c in found[:2000] for w in c.words}))}
    x = np.zeros((len(found), 12), "int32")
    for row, command in enumerate(found):
        x[row, : len(command.words)] = [words.get(word, 1) for word in command.words]
    names = {"intent": [c.intent for c in found], "domain": [str(c.domain) for c in found]}
    y = {task: np.unique(values, return_inverse=True)[1].astype("int32") for task, values in names.items()}
    counts = {task: int(values.max()) + 1 for task, values in y.items()}
    train, test = ((x[s], {t: v[s] for t, v in y.items()}) for s in (slice(2000), slice(2000, None)))
    stages = [[layers.Embedding(len(words) + 2, 16), layers.GlobalAveragePooling1D()], *dense(32)]
    return keras.Input((12,), dtype="int32"), stages, *classes(counts), train, test


DATA = {
    "genes": genes,
    "patients": patients,
    "molecules": molecules,
    "films": films,
    "people": people,
    "faces": small_faces,
    "digits": two_digits,
    "commands": commands,
}


def study(name, quick):
    """The sweep, the calls, and what became of the picks. Returns a JSON-compatible dict."""
    _, stages, heads, loss, metrics, train, test = DATA[name]()
    count = len(stages)
    epochs, seeds, calls = (2, 2, 1) if quick else (EPOCHS, SEEDS, CALLS)
    if quick:
        train, test = some(train, 300), some(test, 300)
    compiled = {"optimizer": "adam", "loss": loss, "missing": "nan" if name == "patients" else None}

    def build(builder, options, weighting):
        given = DATA[name]()
        model = builder(*given[:3], **options)
        model.compile(**compiled, metrics={t: [m] for t, m in metrics.items()}, **weighting)
        return model

    def trained(candidates):
        report = keras_mtl.analysis.compare(
            candidates,
            train,
            baselines={task: {metric: 1.0} for task, metric in metrics.items()},  # gains are worked out below
            metrics=metrics,
            test=test,
            epochs=epochs,
            seeds=list(range(500, 500 + seeds)),
            batch_size=BATCH,
            directory=FOLDER / name / "sweep",
        )
        return {
            label: {t: np.array([run["values"][f"{t}_{m}"] for run in runs]) for t, m in metrics.items()}
            for label, runs in report.runs.items()
        }

    sweep = {label: lambda given=given: build(*given) for label, given in sweep_of(len(heads), count).items()}
    clock = FOLDER / name / "sweep_seconds.json"
    start = time.perf_counter()
    scores = trained(sweep)
    if not clock.exists():  # a sweep that was stopped counts from where it went on: too little, which is against us
        clock.write_text(json.dumps(time.perf_counter() - start))
    seconds = json.loads(clock.read_text())
    lower = [task for task, metric in metrics.items() if metric == "mae"]
    picks = []
    for seed in range(calls):
        given = DATA[name]()
        advice = keras_mtl.advise(
            *given[:3],
            train=train,
            test=test,
            compile=compiled,
            metrics=metrics,
            minutes=max(seconds / 3 / 60, 0.5),
            epochs=epochs,
            seeds=3,
            batch_size=BATCH,
            seed=seed,
            directory=FOLDER / name / f"advice_{seed}",
        )
        advice.to_html(FOLDER / f"{name}_{seed}.html")
        if advice.name not in scores:
            namespace = {}
            exec(advice.code(), namespace)
            scores |= trained({advice.name: namespace["make_model"]})
        picks.append({"name": advice.name, "seconds": advice.seconds, "verdict": advice.verdict, "plan": advice.plan})
    gains = {label: delta_m(of, scores[ALONE], lower_is_better=lower) for label, of in scores.items()}
    best = max(sweep, key=lambda label: gains[label].mean())
    for pick in picks:
        gain = gains[pick["name"]]
        pick["gain"] = gain.tolist()
        pick["regret"] = float(gains[best].mean() - gain.mean())
        differs = pick["name"] != ALONE and seeds_tell_apart(gain, gains[ALONE])
        pick["beside single-task"] = 0 if not differs else int(np.sign(gain.mean()))
    return {
        "best": best,
        "gains": {label: gain.tolist() for label, gain in gains.items()},
        "sweep seconds": seconds,
        "picks": picks,
    }


def table_of(results):
    table = Table(title=f"test, delta_m in %, {SEEDS} seeds", title_justify="left")
    for column in ("data", "best of the sweep", "gain", "picked", "gain", "regret", "time of a call / sweep"):
        table.add_column(column)
    for name, result in results.items():
        best = mean_and_spread(result["gains"][result["best"]], digits=2, signed=True)
        for place, pick in enumerate(result["picks"]):
            mark = {1: " *", 0: "", -1: " (worse *)"}[pick["beside single-task"]]
            table.add_row(
                name if place == 0 else "",
                result["best"] if place == 0 else "",
                best if place == 0 else "",
                pick["name"],
                mean_and_spread(pick["gain"], digits=2, signed=True) + mark,
                f"{pick['regret']:.2f}",
                f"{pick['seconds'] / result['sweep seconds']:.2f}",
            )
    return table


def say_sums(results):
    picks = [pick for result in results.values() for pick in result["picks"]]
    below = sum(pick["beside single-task"] < 0 for pick in picks)
    above = sum(any(p["beside single-task"] > 0 for p in result["picks"]) for result in results.values())
    always = sum(all(p["beside single-task"] > 0 for p in result["picks"]) for result in results.values())
    families = [[_family(pick["name"]) for pick in result["picks"]] for result in results.values()]
    stable = sum(max(names.count(name) for name in names) >= 2 for names in families if len(names) > 2)
    console.print(
        f"* differs from {ALONE!r} (Welch's t-test at 5 %). Of {len(picks)} picks {below} significantly below "
        f"single-task; above on {above} of {len(results)} data sets with a pick at least, with every pick on {always}; "
        f"mean regret {np.mean([pick['regret'] for pick in picks]):.2f} points; the same family in two of three calls "
        f"on {stable} of {len(results)}."
    )


def _family(name):
    """What is shared, without the weighting."""
    for family in (ALONE, "all shared", "groups", "cross-stitch", "CGC", "MMoE"):
        if name.startswith(family):
            return family
    return "some stages"


def is_right(kind, advice):
    """Whether the answer is the planted one."""
    kinds = {finding.kind: finding for finding in advice.findings}
    shares = advice.name != ALONE
    if kind == "unrelated":
        return not shares
    if kind == "groups":
        return advice.tree is not None and advice.tree[-1] == [["a", "b"], ["c", "d"]]
    if kind == "starved":
        return "starved" in kinds and kinds["starved"].tasks == ("b",)
    if kind == "noise":  # nothing is shared with "c", whatever the other two do
        return not shares or (advice.tree is not None and ["c"] in advice.tree[0])
    return shares and (kind != "few labels" or "few labels" in kinds)


def planted_study(kind, seeds, quick):
    """Asks about a planted problem with several seeds. Returns a list of JSON-compatible dicts."""
    found = []
    for seed in range(seeds):
        train, test = planted(kind, seed=100 + seed)
        advice = keras_mtl.advise(
            keras.Input((20,)),
            [layers.Dense(WIDTHS[kind], activation="tanh", name="low")],
            {task: layers.Dense(1) for task in train[1]},
            train=train,
            test=test,
            compile={"optimizer": keras.optimizers.Adam(1e-2), "loss": "mse", "missing": "nan"},
            metrics=dict.fromkeys(train[1], "loss"),
            minutes=10,
            epochs=2 if quick else 30,
            seeds=1 if quick else 3,
            batch_size=60,
            seed=seed,
            directory=FOLDER / "planted" / f"{kind}_{seed}",
        )
        found.append({"seed": seed, "name": advice.name, "right": is_right(kind, advice), "verdict": advice.verdict})
        console.print(f"{kind}, seed {seed}: {advice.name} ({'right' if found[-1]['right'] else 'wrong'})")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows, epochs and seeds, to see that it runs")
    parser.add_argument("--planted", action="store_true", help="the planted problems in place of the data sets")
    parser.add_argument("--data", help="some of the data sets, or kinds of planted problems, separated by commas")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each planted problem")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = (arguments.data or ",".join(KINDS if arguments.planted else DATA)).split(",")
    kept = FOLDER / ("planted.json" if arguments.planted else "sweep.json")
    results = json.loads(kept.read_text()) if kept.exists() and not arguments.quick else {}
    for name in names:
        if arguments.planted:
            results[name] = planted_study(name, arguments.seeds, arguments.quick)
        else:
            results[name] = study(name, arguments.quick)
            console.print(table_of({name: results[name]}))
        if not arguments.quick:
            kept.write_text(json.dumps(results, indent=1))
    if arguments.planted:
        for kind, found in results.items():
            console.print(f"{kind}: right in {sum(each['right'] for each in found)} of {len(found)} seeds")
    else:
        console.print(table_of(results))
        if not arguments.quick:
            say_sums(results)


if __name__ == "__main__":
    main()
