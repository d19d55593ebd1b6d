"""Which tasks belong together, where it is known: six regressions in two planted groups.

An hour on two cores, two minutes with --quick; downloads nothing.

The tasks of a group depend on the same three features of the inputs, `s_i = tanh(w_i x)`, those of the other group on
three others, in directions at right angles to them. With "sums", task i is `s_i + s_(i+1)`, so tasks of a group are
correlated, and the trunk's last stage has just room for all features (6 units). With "products" it is `s_i * s_(i+1)`:
their labels are uncorrelated, and what they share is to be seen in training alone (12 units). Every measure of affinity
gets the same data and 600 steps (products: 1,200) for each network that it trains, and `group_tasks` chooses two groups
by it. Training all pairs of tasks takes most of the time, and so is done with the first seed alone (or `--pairs`).

What it can show: which measures find planted groups, and what each costs. What it cannot: that real tasks come in
groups as clear as these, or that groups found in this way train better (recipes/task_grouping.py asks that).

    python recipes/studies/grouping_study.py [--quick] [--data sums] [--seeds 5] [--pairs 1]

A picture goes to runs/grouping_study/; a call that was stopped goes on from there.
"""

import json
import time

import parent  # noqa: F401
from common import command_line, console, mean_and_spread, new_figure, over_seeds, print_table, progress

import keras
import numpy as np

import keras_mtl
from keras_mtl import analysis

GROUPS = (("a1", "a2", "a3"), ("b1", "b2", "b3"))
TASKS = [task for group in GROUPS for task in group]
INPUTS, EXAMPLES, BATCH, EVERY = 16, 2000, 64, 10
UNITS = {"sums": 6, "products": 12}
EPOCHS = {"sums": 19, "products": 38}  # of 32 steps
MEASURES = ("look-ahead", "cosine", "features", "labels", "all pairs")


def make_data(kind, seed):
    """Inputs, and labels of six tasks with mean 0, variance 1 and a tenth of noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(EXAMPLES, INPUTS)).astype("float32")
    y = {}
    directions = np.linalg.qr(rng.normal(size=(INPUTS, 6)))[0]  # orthogonal: groups have nothing in common
    for group, of_group in zip(GROUPS, np.split(directions, 2, axis=1), strict=True):
        features = np.tanh(2 * x @ of_group)
        for i, task in enumerate(group):
            first, second = features[:, i], features[:, (i + 1) % 3]
            clean = first + second if kind == "sums" else first * second
            clean = (clean - clean.mean()) / clean.std()
            y[task] = (clean + 0.1 * rng.normal(size=EXAMPLES)).astype("float32")[:, None]
    return x, y


def build(kind, tasks):
    layers = keras.layers
    model = keras_mtl.hard_sharing(
        inputs=keras.Input((INPUTS,)),
        stages=[layers.Dense(32, activation="tanh"), layers.Dense(UNITS[kind], activation="tanh")],
        heads={task: layers.Dense(1) for task in tasks},
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss="mse", steps_per_execution=EVERY)
    return model


def found(grouping):
    """Whether the groups are the planted ones."""
    return {frozenset(group) for group in grouping.groups} == {frozenset(group) for group in GROUPS}


def contrast(affinity):
    """Mean affinity within groups over the mean absolute one between them."""
    same = np.array([[any(a in g and b in g for g in GROUPS) for b in TASKS] for a in TASKS])
    within = affinity.values[same & ~np.eye(len(TASKS), dtype=bool)]
    return float(within.mean() / np.abs(affinity.values[~same]).mean())


class StepsClock(keras.callbacks.Callback):
    """CPU seconds of steps, without tracing: those from the second epoch on, as if the first were like them."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self._start = time.process_time()

    def on_train_end(self, logs=None):
        epochs = self.params["epochs"]
        self.seconds += (time.process_time() - self._start) * epochs / (epochs - 1)


def measure(kind, seed, epochs, show, with_pairs):
    """All measures on one data set, those that train all pairs of tasks if asked.

    Returns:
        Dict from measure to a dict of `scores`, `found`, CPU `seconds`, and those of `steps` alone.
    """
    x, y = make_data(kind, seed)
    options = {"epochs": epochs, "batch_size": BATCH, "progress": False}
    results = {}

    def keep(name, take):
        show(f"{kind}, seed {seed}, {name}", len(results))
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        clock = StepsClock()
        start = time.process_time()
        scores = take([clock])
        seconds = time.process_time() - start
        method = "higher_order" if isinstance(scores, list) else "integer"
        chosen = found(analysis.group_tasks(scores, 2, method=method))
        results[name] = {"scores": scores, "found": chosen, "seconds": seconds, "steps": clock.seconds}

    def plain(callbacks):
        model = build(kind, TASKS)
        model.fit(x, y, batch_size=BATCH, epochs=epochs, callbacks=callbacks, verbose=0)
        return analysis.task_relations(y).association  # of no interest here: the time is

    def pairs(callbacks):
        validation = make_data(kind, seed)
        return analysis.measure_networks(
            lambda tasks: build(kind, tasks),
            (x[:1600], {t: v[:1600] for t, v in y.items()}),
            validation=(validation[0][1600:], {t: v[1600:] for t, v in validation[1].items()}),
            metrics=dict.fromkeys(TASKS, "loss"),
            seeds=[seed],
            callbacks=callbacks,
            **{**options, "epochs": round(epochs * EXAMPLES / 1600)},
        )

    def features(callbacks):
        columns = analysis.build_groups([[task] for task in TASKS], lambda tasks: build(kind, tasks))
        return analysis.measure_affinity(columns, (x, y), method="representation", callbacks=callbacks, **options)

    keep("plain training", plain)
    for name, method in (("look-ahead", "look_ahead"), ("cosine", "cosine")):
        keep(
            name,
            lambda callbacks, method=method: analysis.measure_affinity(
                build(kind, TASKS), (x, y), method=method, every=EVERY, callbacks=callbacks, **options
            ),
        )
    keep("features", features)
    keep("labels", lambda callbacks: analysis.task_relations(y).association)
    if with_pairs:
        keep("all pairs", pairs)
    return results


def measure_once(kind, seed, epochs, show, folder, with_pairs=True):
    """What `measure` returns, kept in a file: a study that was stopped goes on."""
    path = folder / f"{kind}-{epochs}-epochs-seed{seed}.json"
    if not path.exists() or (with_pairs and "all pairs" not in json.loads(path.read_text())):
        found = measure(kind, seed, epochs, show, with_pairs)
        for result in found.values():
            scores = result["scores"]
            result["scores"] = scores.to_dict() if isinstance(scores, analysis.Affinity) else None
        path.with_suffix(".part").write_text(json.dumps(found))
        path.with_suffix(".part").replace(path)
    found = json.loads(path.read_text())
    for result in found.values():
        if result["scores"] is not None:
            result["scores"] = analysis.Affinity.from_dict(result["scores"])
    return found


def report(results, options):
    """Prints, for each measure, how often the groups were found, how clearly, and at what cost."""
    rows = []
    for kind, of_kind in results.items():
        for name in MEASURES:
            with_it = [r for r in of_kind if name in r]
            runs = [r[name] for r in with_it]
            if not runs:
                continue
            seconds, steps = (
                np.array([r[name][key] for r in with_it]) / [r["plain training"][key] for r in with_it]
                for key in ("seconds", "steps")
            )
            affinities = [r["scores"] for r in runs if r["scores"] is not None]
            clear = mean_and_spread([contrast(a) for a in affinities]) if affinities else ""
            right = f"{sum(r['found'] for r in runs)} of {len(runs)}"
            cpu = mean_and_spread([r["seconds"] for r in runs])
            rows.append([f"{kind}, {name}", right, clear, cpu, mean_and_spread(seconds, 2), mean_and_spread(steps, 2)])
    header = ["measure", "groups found", "within / |between|", "CPU s", "of a training", "in steps"]
    print_table(f"Two planted groups of three tasks, {over_seeds(options)}", header, rows)
    console.print("'of a training': CPU time over that of training all six tasks in one network, unwatched")
    console.print("'in steps': the same without tracing, which takes most of the time where networks are so small")


def draw(results, path):
    """Heat maps: affinities of the first four measures, means over the seeds."""
    names = MEASURES[:4]
    figure = new_figure(3.1 * len(names), 3.0 * len(results) + 0.3)
    panels = figure.subplots(len(results), len(names), squeeze=False)
    for row, (kind, of_kind) in zip(panels, results.items(), strict=True):
        for axis, name in zip(row, names, strict=True):
            values = np.mean([r[name]["scores"].values for r in of_kind], axis=0)
            values = np.where(np.eye(len(TASKS), dtype=bool), np.nan, values)
            limit = np.nanmax(np.abs(values))
            image = axis.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit)
            axis.set_xticks(range(len(TASKS)), TASKS)
            axis.set_yticks(range(len(TASKS)), TASKS)
            times = sum(r[name]["found"] for r in of_kind)
            axis.set_title(f"{kind}: {name}, found {times} of {len(of_kind)}", fontsize=8)
            figure.colorbar(image, ax=axis, shrink=0.75)
    figure.supylabel("helps ...", fontsize=9)
    figure.supxlabel("... this task", fontsize=9)
    figure.savefig(path, dpi=110)


def main():
    pairs = (1, "number of seeds for which all pairs are trained")
    options = command_line(__file__, __doc__, data=(("both", *UNITS), "kind of tasks"), pairs=pairs)
    results = {kind: [] for kind in (UNITS if options.data == "both" else [options.data])}
    with progress("measures") as bar:
        row = bar.add_task("", total=len(results) * len(options.seeds) * (len(MEASURES) + 1))
        done = 0

        def show(text, measured):
            bar.update(row, description=text, completed=done + measured)

        for place, seed in enumerate(options.seeds):
            for kind in results:
                epochs = 2 if options.quick else EPOCHS[kind]
                with_pairs = place < options.pairs
                results[kind].append(measure_once(kind, seed, epochs, show, options.folder, with_pairs))
                done += len(MEASURES) + 1
        bar.update(row, completed=done)
    report(results, options)
    draw(results, options.folder / "affinities.png")
    console.print(f"Picture: {options.folder / 'affinities.png'}")


if __name__ == "__main__":
    main()
