"""Is `keras_mtl.advise` right? Beside a full sweep on eight real data sets, and on problems whose answer is planted.

Some ten minutes on one core for each data set, 40 for `--planted`; most data come with packages (see
requirements-data.txt).

For each data set, eight or nine ways to share that an expert might try are trained whole, 10 epochs (commands 40)
with five seeds each, on all training examples, and tested. Then `advise` is called three times, each time for a third
of the minutes that this sweep took (more where it says that it needs more), and what it picks is looked up in the sweep
(or trained like it). Regret is how far the pick's mean gain on the test is behind the best of the sweep, which nobody
knows beforehand; the best of nine means is lucky too, so regret is overstated. Gains are delta_m over single-task
columns. `advise` chooses on validation examples, and the test may overturn a choice: counts and regrets are on test
examples that have had this say, in trainings with other seeds.

Planted problems are regressions on hidden features, four for each group of tasks: `advise` should share where all
tasks read the same ones or one has few labels, share nothing in a trunk that is too narrow for two groups, find two
groups, say that a task is starved by scale, and leave a task of pure noise alone. Seeds draw features, examples, splits
and weights anew. Widths, batches and epochs were chosen on other draws, so that what is planted is true of whole
trainings' test errors there.

What it can show: how often the answer is right on problems of this size. What it cannot: the same for large data or
networks, nor for data that no rule has seen: patients and genes had been looked at while `advise` was written, and two
of its rules came after a first run on all eight.

    python recipes/studies/advise.py [--planted] [--data genes,films] [--quick]

Resumable: what was trained is in runs/advise/, with tables as JSON and the pages of `advise`.
"""

import json
import re
import time
from functools import partial
from pathlib import Path

import parent  # noqa: F401
from common import command_line, console, delta_m, mean_and_spread, print_table, tell_apart

import keras
import numpy as np
from data.arrays import batches
from data.eight import DATA, some
from data.planted import BATCHES, KINDS, WIDTHS, planted
from keras import layers

import keras_mtl

ALONE = "nothing shared"
EPOCHS, BATCH, SEEDS, CALLS = 10, 64, 5, 3
LONGER = {"commands": 40}  # 2,000 commands are 32 steps: after 10 epochs a third of the intents is right, and rising
FOLDER = Path("runs") / "advise"


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


def trained(candidates, train, test, metrics, epochs, seeds, folder):
    """Test values of every candidate with every seed, kept in the folder. Returns them and the seconds of each.

    Models of one candidate are traced once: later seeds bring their initial weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for label, build in candidates.items():
        kept = folder / (re.sub(r"[^\w.]+", "_", label) + ".json")
        runs = json.loads(kept.read_text()) if kept.exists() else {}
        model = None
        for seed in seeds:
            if str(seed) in runs:
                continue
            start = time.perf_counter()
            keras.utils.set_random_seed(seed)
            fresh = build()
            fresh.optimizer.build(fresh.trainable_variables)
            model = model or fresh
            states = [[*each.variables, *each.optimizer.variables] for each in (model, fresh)]
            for variable, value in zip(*states, strict=True):
                variable.assign(value)
            data = batches(train, BATCH, seed)
            keras.utils.set_random_seed(seed)
            how = {"steps_per_epoch": int(data.cardinality()), "epochs": epochs, "shuffle": False, "verbose": 0}
            model.fit(data.repeat(), **how)  # one iterator for all epochs
            values = model.evaluate(*test, batch_size=1024, return_dict=True, verbose=0)
            values = {task: float(values[f"{task}_{metric}"]) for task, metric in metrics.items()}
            runs[str(seed)] = {"values": values, "seconds": time.perf_counter() - start}
            kept.write_text(json.dumps(runs))
        console.print(f"{label}: {[round(runs[str(seed)]['seconds'], 1) for seed in seeds]} s")
        found[label] = [runs[str(seed)] for seed in seeds]
    scores = {
        label: {task: np.array([run["values"][task] for run in runs]) for task in metrics}
        for label, runs in found.items()
    }
    return scores, sum(run["seconds"] for runs in found.values() for run in runs)


def anew(layer):
    return type(layer).from_config(layer.get_config())


def study(name, quick):
    """The sweep, the calls, and what became of the picks. Returns a JSON-compatible dict."""
    inputs, stages, heads, loss, metrics, train, test = DATA[name]()
    epochs, seeds, calls = (2, 2, 1) if quick else (LONGER.get(name, EPOCHS), SEEDS, CALLS)
    if quick:
        train, test = some(train, 300), some(test, 300)
    compiled = {"optimizer": "adam", "loss": loss, "missing": "nan" if name == "patients" else None}
    folder = FOLDER / f"{name}{'-quick' * quick}"

    def build(builder, options, weighting):
        fresh = (
            [[anew(layer) for layer in stage] for stage in stages],
            {task: anew(head) for task, head in heads.items()},
        )
        model = builder(inputs, *fresh, **options)
        model.compile(**compiled, metrics={t: [m] for t, m in metrics.items()}, **weighting)
        return model

    def swept(candidates):
        return trained(candidates, train, test, metrics, epochs, range(500, 500 + seeds), folder / "sweep")

    sweep = {label: lambda given=given: build(*given) for label, given in sweep_of(len(heads), len(stages)).items()}
    scores, seconds = swept(sweep)
    lower = [task for task, metric in metrics.items() if metric == "mae"]
    how = {"train": train, "test": test, "compile": compiled, "metrics": metrics, "epochs": epochs, "batch_size": BATCH}
    minutes, picks = max(seconds / 3 / 60, 0.5), []
    for seed in range(calls):
        own = {"seed": seed, "directory": folder / f"advice_{seed}"}
        ask = partial(keras_mtl.advise, inputs, stages, heads, seeds=3, **how, **own)
        try:
            advice = ask(minutes=minutes)
        except ValueError as error:
            needed = re.search(r"here about ([0-9.]+)\. Received: minutes", str(error))
            if needed is None:
                raise
            advice = ask(minutes=max(1.2 * float(needed[1]), minutes))  # the table shows that it took more than a third
        advice.to_html(FOLDER / f"{name}_{seed}.html")
        if advice.name not in scores:
            namespace = {}
            exec(advice.code(), namespace)
            scores |= swept({advice.name: namespace["make_model"]})[0]
        picks.append({"name": advice.name, "seconds": advice.seconds, "verdict": advice.verdict, "plan": advice.plan})
    gains = {label: delta_m(of, scores[ALONE], lower_is_better=lower) for label, of in scores.items()}
    best = max(sweep, key=lambda label: gains[label].mean())
    for pick in picks:
        gain = gains[pick["name"]]
        pick["gain"] = gain.tolist()
        pick["regret"] = float(gains[best].mean() - gain.mean())
        differs = pick["name"] != ALONE and tell_apart(gain, gains[ALONE])
        pick["beside single-task"] = 0 if not differs else int(np.sign(gain.mean()))
    return {
        "best": best,
        "gains": {label: gain.tolist() for label, gain in gains.items()},
        "sweep seconds": seconds,
        "picks": picks,
    }


def print_results(results):
    rows = []
    for name, result in results.items():
        best = mean_and_spread(result["gains"][result["best"]], digits=2, signed=True)
        for place, pick in enumerate(result["picks"]):
            mark = {1: " *", 0: "", -1: " (worse *)"}[pick["beside single-task"]]
            gain = mean_and_spread(pick["gain"], digits=2, signed=True) + mark
            share = f"{pick['seconds'] / result['sweep seconds']:.2f}"
            first = ["", "", ""] if place else [name, result["best"], best]
            rows.append([*first, pick["name"], gain, f"{pick['regret']:.2f}", share])
    header = ["data", "best of the sweep", "gain", "picked", "gain", "regret", "time of a call / sweep"]
    print_table(f"test, delta_m in %, {SEEDS} seeds", header, rows)


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
    return shares


def planted_study(kind, seed, quick):
    """Asks about a planted problem. Returns a JSON-compatible dict."""
    train, test = planted(kind, seed=200 + seed)
    advice = keras_mtl.advise(
        keras.Input((20,)),
        [layers.Dense(WIDTHS[kind], activation="tanh", name="low")],
        {task: layers.Dense(1) for task in train[1]},
        train=train,
        test=test,
        compile={
            "optimizer": keras.optimizers.Adam(3e-2),
            "loss": "mse",
            "missing": "nan",
            "steps_per_execution": 4,  # the same numbers in less time
        },
        metrics=dict.fromkeys(train[1], "loss"),
        minutes=1 if kind == "starved" else 10,  # it is seen in the first two trainings
        epochs=2 if quick else 30,
        seeds=1 if quick else 3,
        batch_size=BATCHES[kind],
        seed=seed,
        directory=FOLDER / "planted" / f"{kind.replace(' ', '_')}_{seed}",
    )
    right = is_right(kind, advice)
    console.print(f"{kind}, seed {seed}: {advice.name} ({'right' if right else 'wrong'}), {advice.seconds:.0f} s")
    found = {"seed": seed, "name": advice.name, "right": right, "verdict": advice.verdict, "seconds": advice.seconds}
    return found | {"candidates": advice.candidates}


def main():
    asked = {
        "planted": (False, "the planted problems in place of the data sets"),
        "data": ("all", "some of the data sets, or kinds of planted problems, separated by commas"),
    }
    options = command_line(__file__, __doc__, fresh=False, **asked)  # `--seeds` are those of planted problems
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = list(KINDS if options.planted else DATA) if options.data == "all" else options.data.split(",")
    kept = FOLDER / ("planted.json" if options.planted else "sweep.json")
    results = json.loads(kept.read_text()) if kept.exists() and not options.quick else {}

    def keep():
        if not options.quick:
            kept.write_text(json.dumps(results, indent=1))

    for name in names:
        if options.planted:
            of_kind = results.setdefault(name, [])
            for seed in options.seeds:
                if seed not in [each["seed"] for each in of_kind]:
                    of_kind.append(planted_study(name, seed, options.quick))
                    keep()
        else:
            results[name] = study(name, options.quick)
            print_results({name: results[name]})
            keep()
    if options.planted:
        for kind, found in results.items():
            console.print(f"{kind}: right in {sum(each['right'] for each in found)} of {len(found)} seeds")
    else:
        print_results(results)
        if not options.quick:
            say_sums(results)


if __name__ == "__main__":
    main()
