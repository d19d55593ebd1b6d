"""Ask before you share: `keras_mtl.advise` on patients and genes, beside fixed choices.

About half an hour on two cores, three minutes with --quick; the data come with packages (see requirements-data.txt).

`advise` is given stages, heads, data and some minutes, once for each data set, and picks a model. Then its pick and
four fixed choices are trained with five fresh seeds on all training examples and tested. Patients are four tasks of
SUPPORT2, with the gaps that their labels have; genes are the first four groups of functions of yeast. Scores are areas
under the ROC curve and mean absolute errors; gains are delta_m over "nothing shared".

What it can show: how far the pick is from the best fixed choice, which nobody knows beforehand. What it cannot: that
`advise` is right on other data; two data sets are two.

    python recipes/advice.py [--quick] [--data patients,genes] [--minutes 10] [--epochs 20] [--seeds 500:505]

The pages of `advise` and what was trained are kept; a call that was stopped goes on there.
"""

from common import command_line, compared, console, delta_m, may_state, summarize

import keras
from data import support2, yeast

import keras_mtl

PATIENTS = ("hospital_death", "dead_180", "charges", "stay")
NUMBERS = ("charges", "stay")
GENES = 4
BATCH = 128
ALONE = "nothing shared"
FIXED = {
    ALONE: (keras_mtl.hard_sharing, {"shared_depth": 0}, "equal"),
    "all shared": (keras_mtl.hard_sharing, {}, "equal"),
    "all shared, uncertainty": (keras_mtl.hard_sharing, {}, "uncertainty"),
    "MMoE": (keras_mtl.mmoe, {"experts": 4}, "equal"),
}


def patients():
    """Training and test patients, as `fit` takes them."""
    splits = support2.support2(validation=0)
    return tuple((x, {task: y[task] for task in PATIENTS}) for x, y in (splits["train"], splits["test"]))


def genes():
    """Training and test genes."""
    splits = yeast.yeast()
    return tuple(
        (x, {f"f{k + 1}": y[:, k : k + 1] for k in range(GENES)}) for x, y in (splits["train"], splits["test"])
    )


DATA = {"patients": patients, "genes": genes}


def parts(train):
    """Inputs, stages, heads and arguments of `compile`, made anew."""
    x, y = train
    stages = [
        [keras.layers.Dense(units, activation="relu", name=f"hidden_{i}"), keras.layers.Dropout(0.2)]
        for i, units in enumerate((64, 32))
    ]
    heads = {t: keras.layers.Dense(1, activation=None if t in NUMBERS else "sigmoid") for t in y}
    loss = {task: "mse" if task in NUMBERS else "binary_crossentropy" for task in y}
    return (keras.Input(x.shape[1:]), stages, heads), {"optimizer": "adam", "loss": loss, "missing": "nan"}


def ask(name, options):
    """Asks, and trains the pick and the fixed choices. Returns results by model, the pick's name, and the tasks."""
    train, test = DATA[name]()
    if options.quick:
        train = keras.tree.map_structure(lambda values: values[:300], train)
    given, compiled = parts(train)
    metrics = {task: "mae" if task in NUMBERS else "auc" for task in train[1]}
    advice = keras_mtl.advise(
        *given,
        train=train,
        test=test,
        compile=compiled,
        metrics=metrics,
        minutes=options.minutes,
        epochs=options.epochs,
        seeds=2 if options.quick else 3,
        batch_size=BATCH,
        directory=options.folder / "advice",
    )
    console.print(f"[bold]{name}[/], page: {options.folder / 'advice.html'}")
    advice.print()
    advice.to_html(options.folder / "advice.html")
    namespace = {}
    exec(advice.code(), namespace)

    def fixed(label):
        builder, shape, weighting = FIXED[label]
        given, compiled = parts(train)
        model = builder(*given, **shape)
        model.compile(**compiled, metrics={t: [m] for t, m in metrics.items()}, weighting=weighting)
        return model

    pick = f"advise: {advice.name}"
    results, _ = compared(
        {**{label: lambda label=label: fixed(label) for label in FIXED}, pick: namespace["make_model"]},
        options,
        train,
        metrics,
        dict.fromkeys(metrics, 1),
        baselines={task: {metric: 1.0} for task, metric in metrics.items()},  # gains are over "nothing shared"
        test=test,
        batch_size=BATCH,
    )
    return results, pick, tuple(metrics)


def main():
    data, minutes = ("patients,genes", "one of them or both"), (10.0, "of each call")
    options = command_line(__file__, __doc__, seeds="500:505", epochs=(20, 2), data=data, minutes=minutes)
    folder = options.folder
    for name in options.data.split(","):
        options.folder = folder / name
        options.folder.mkdir(exist_ok=True)
        results, pick, tasks = ask(name, options)
        lower = [task for task in tasks if task in NUMBERS]
        gains = {
            label: delta_m({t: found[t] for t in tasks}, {t: results[ALONE][t] for t in tasks}, lower)
            for label, found in results.items()
        }
        for label, gain in gains.items():
            results[label]["gain"] = gain
        scores = {**{task: task for task in tasks}, "gain": "delta_m, %"}
        how = {"reference": ALONE, "lower": lower, "digits": dict.fromkeys(tasks, 3) | {"gain": 2}, "gain": False}
        summarize(results, options, scores, title=f"{name}: test", paired=True, comparisons=len(results) - 1, **how)
        if may_state(options):
            best = max(FIXED, key=lambda label: gains[label].mean())
            regret = gains[best].mean() - gains[pick].mean()
            console.print(f"The pick is behind the best fixed choice, {best!r}, by {regret:+.2f} points.")


if __name__ == "__main__":
    main()
