"""Sharing that is learned: do the methods find which tasks were made to belong together?

Regressions in two planted groups: within a group they are made of the same tanh features of 20 inputs, and the same
examples are noisy. Three methods get them, each seed with tasks, data and initial weights of its own:

- `branch_by_affinity` grows a tree by which examples are difficult, at several prices of a branch;
- `learning_to_branch` draws each branch's parent and keeps the likeliest;
- `adashare` learns which of six residual blocks each task runs, at several strengths of sparsity; what it finds is
  trained anew.

What it shows: how often the groups part, and what error the parameters or blocks buy. What it does not: that learned
sharing beats a good guess on data that nobody planted.

    python recipes/learned_sharing.py [--quick] [--seeds 5]

The picture goes to runs/learned_sharing/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
from common import console, mean_and_spread, output_folder, progress
from keras import layers
from rich.table import Table

import keras_mtl

INPUTS, WIDTH, TRAIN, TEST = 20, 6, 2000, 1000
SIZES = (3, 3)  # tasks of each group
PRICES = (0.3, 0.03, 0.01)
SPARSITIES = (0.0, 0.05, 0.3)
BLOCKS = 6


def make_data(seed, sizes=SIZES):
    """Inputs and labels of all tasks, `(train, test)`; tasks are named `<group>_<number>`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(TRAIN + TEST, INPUTS)).astype("float32")
    y = {}
    for group, size in zip("ab", sizes, strict=True):
        features = np.tanh(x @ rng.normal(size=(INPUTS, WIDTH)) * 1.5 / np.sqrt(INPUTS))
        noise = np.where(x @ rng.normal(size=INPUTS) > 0, 1.0, 0.1)
        for number in range(size):
            z = features @ rng.normal(size=WIDTH)
            y[f"{group}_{number}"] = ((z - z.mean()) / z.std() + noise * rng.normal(size=len(x)))[:, None]
    parts = np.s_[:TRAIN], np.s_[TRAIN:]
    return tuple((x[part], {task: v[part].astype("float32") for task, v in y.items()}) for part in parts)


def heads(tasks):
    """A linear head for each task."""
    return {task: layers.Dense(1) for task in tasks}


def fit(model, data, epochs, **options):
    """Compiles and trains a model; `keras.utils.set_random_seed` decides the order of examples."""
    model.compile(keras.optimizers.Adam(5e-3), loss="mse", jit_compile=False, **options)
    model.fit(*data, batch_size=100, epochs=epochs, verbose=0)


def error(model, data):
    """Mean of the tasks' squared errors."""
    logs = model.evaluate(*data, batch_size=1000, verbose=0, return_dict=True)
    return np.mean([logs[f"{task}_loss"] for task in model.tasks])


def parted(tree):
    """Whether no branch of the last stage has tasks of both groups."""
    return all(len({task[0] for task in group}) == 1 for group in tree[-1])


def trunk():
    """Two thin stages."""
    return [layers.Dense(12, activation="tanh", name="low"), layers.Dense(6, activation="tanh", name="high")]


def grow(seed, price, epochs):
    """A tree by affinity: `(parted, parameters, test error)`."""
    train, test = make_data(seed)
    half = TRAIN // 4
    validation = train[0][:half], {t: v[:half] for t, v in train[1].items()}
    rest = train[0][half:], {t: v[half:] for t, v in train[1].items()}
    keras.utils.set_random_seed(seed)
    model, tree = keras_mtl.branch_by_affinity(
        keras.Input((INPUTS,)),
        trunk(),
        heads(train[1]),
        train=lambda model: fit(model, rest, epochs),
        validation_data=validation,
        branch_cost=price,
    )
    return parted(tree), model.count_params(), error(model, test)


def draw_branches(seed, epochs):
    """A tree by drawn parents, its weights as they are: `(parted, parameters, test error)`."""
    train, test = make_data(seed)
    keras.utils.set_random_seed(seed)
    model = keras_mtl.learning_to_branch(
        keras.Input((INPUTS,)), trunk(), heads(train[1]), warmup_steps=100, temperature=5.0, decay=0.998
    )
    fit(model, train, 3 * epochs)
    tree = keras_mtl.branches_of(model)
    model = keras_mtl.extract_branches(model)
    fit(model, train, epochs)
    return parted(tree), model.count_params(), error(model, test)


def fixed(seed, depth, epochs):
    """Hard sharing or columns, for comparison: `(parted, parameters, test error)`."""
    train, test = make_data(seed)
    keras.utils.set_random_seed(seed)
    model = keras_mtl.hard_sharing(keras.Input((INPUTS,)), trunk(), heads(train[1]), shared_depth=depth)
    fit(model, train, 3 * epochs)
    return depth == 0, model.count_params(), error(model, test)


def residual_blocks():
    """A stem and six blocks."""
    blocks = [layers.Dense(32, activation="tanh", name=f"block_{i}") for i in range(BLOCKS)]
    return [layers.Dense(32, activation="tanh", name="stem"), *blocks]


def select(seed, sparsity, epochs):
    """A policy, trained anew: `(groups part, blocks a task, test error)`."""
    train, test = make_data(seed, sizes=(2, 1))
    half = TRAIN // 2
    first, second = (
        (train[0][part], {t: v[part] for t, v in train[1].items()}) for part in (np.s_[:half], np.s_[half:])
    )
    keras.utils.set_random_seed(seed)
    model = keras_mtl.adashare(
        keras.Input((INPUTS,)),
        residual_blocks(),
        heads(train[1]),
        sparsity=sparsity,
        sharing=0.005,
        form="code",
        warmup_steps=10 * epochs,
        decay=0.99,
    )
    model.compile(keras.optimizers.Adam(3e-3), loss="mse", jit_compile=False)
    keras_mtl.fit_policy(
        model, first, second, epochs=4 * epochs, policy_optimizer=keras.optimizers.Adam(0.03), verbose=0
    )
    policy = keras_mtl.policy_of(model)
    keras.utils.set_random_seed(seed)
    again = keras_mtl.adashare(keras.Input((INPUTS,)), residual_blocks(), heads(train[1]), policy=policy)
    fit(again, train, 2 * epochs)
    runs = {task: np.array(chosen) for task, chosen in policy.items()}
    apart = bool((runs["a_0"] != runs["b_0"]).any() and (runs["a_1"] != runs["b_0"]).any())
    return apart, np.mean([chosen.sum() for chosen in runs.values()]), error(again, test)


def jobs(epochs):
    """Each row of the tables: title -> row -> function of a seed."""
    trees = {
        "all stages shared": lambda seed: fixed(seed, 2, epochs),
        "a column for each task": lambda seed: fixed(seed, 0, epochs),
        **{f"by affinity, a branch costs {p:g}": lambda seed, p=p: grow(seed, p, epochs) for p in PRICES},
        "by drawn parents": lambda seed: draw_branches(seed, epochs),
    }
    policies = {f"sparsity {s:g}": lambda seed, s=s: select(seed, s, epochs) for s in SPARSITIES}
    return {"Trees": trees, "Policies": policies}


def draw(results, path):
    """Error against parameters for trees, against blocks for policies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, (title, rows) in zip(figure.subplots(1, 2), results.items(), strict=True):
        for index, (name, runs) in enumerate(rows.items()):
            sizes, errors = np.array([run[1] for run in runs]), np.array([run[2] for run in runs])
            axis.plot(sizes, errors, ".", color=f"C{index}", alpha=0.4)
            axis.plot(sizes.mean(), errors.mean(), "o", color=f"C{index}", label=name)
        axis.set_title(title)
        axis.set_xlabel("parameters" if title == "Trees" else "blocks that a task runs")
        axis.set_ylabel("test MSE (large: means; small: seeds)")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15, help="of a tree between two splits")
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    tables = jobs(1 if options.quick else options.epochs)
    results = {title: {name: [] for name in rows} for title, rows in tables.items()}
    with progress() as bar:
        row = bar.add_task("", total=len(seeds) * sum(len(rows) for rows in tables.values()))
        for title, rows in tables.items():
            for name, run in rows.items():
                for seed in seeds:
                    bar.update(row, description=f"{name}, seed {seed}")
                    keras.utils.clear_session()
                    results[title][name].append(run(seed))
                    bar.advance(row)
    for title, rows in results.items():
        size = "parameters" if title == "Trees" else "blocks of a task"
        table = Table(title=f"{title}, {len(seeds)} seeds", title_justify="left")
        for column in ("sharing", "groups part", size, "test MSE"):
            table.add_column(column, justify="left" if column == "sharing" else "right")
        for name, runs in rows.items():
            apart, sizes, errors = zip(*runs, strict=True)
            digits = 0 if title == "Trees" else 1
            cells = [f"{sum(apart)} of {len(apart)}", mean_and_spread(sizes, digits), mean_and_spread(errors, 3)]
            table.add_row(name, *cells)
        console.print(table)
    path = output_folder("learned_sharing") / "results.png"
    draw(results, path)
    console.print(f"Picture: {path}", soft_wrap=True)


if __name__ == "__main__":
    main()
