"""Sharing that is learned: do the methods find which tasks were made to belong together?

Regressions in two planted groups. For trees, tasks of a group are made of the same six tanh features of 20 inputs and,
to a smaller part, of features of their own; the same examples of a group have wrong labels. The last stage is too
narrow for both groups. For policies, tasks of a group are made of the same three layers of tanh. Each seed has tasks,
data and initial weights of its own:

- `branch_by_affinity` grows a tree by which examples are difficult, at several prices of a branch;
- `learning_to_branch` draws each branch's parent and keeps the likeliest;
- `adashare` learns which of six residual blocks each task runs, at several strengths of sparsity; what it finds is
  trained anew.

What it shows: how often the groups part, and what error the parameters or blocks buy, on test labels without noise.
What it does not: that learned sharing beats a good guess on data that nobody planted.

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

INPUTS, WIDTH, TRAIN, TEST = 20, 6, 4000, 1000
OWN = 0.4  # strength of a task's own features beside its group's
TREES, POLICIES = {"a": 3, "b": 3}, {"a": 2, "b": 1}  # tasks of each group
PRICES = (0.3, 0.07, 0.03, 0.01)
SPARSITIES = (0.0, 0.02, 0.1)
PRICE = "by affinity, a branch costs"
LAYERS, BLOCKS = 3, 6


def scaled(values):
    """Values with mean 0 and standard deviation 1."""
    return (values - values.mean()) / values.std()


def features(x, count, rng):
    """Random directions of the inputs, through tanh."""
    return np.tanh(x @ rng.normal(size=(INPUTS, count)) * 1.5 / np.sqrt(INPUTS))


def parts(x, noisy, clean):
    """`(train, test)`, of which the test labels have no noise."""
    cut = {
        name: {task: y[:, None].astype("float32") for task, y in labels.items()}
        for name, labels in (("train", noisy), ("test", clean))
    }
    return (
        (x[:TRAIN], {task: y[:TRAIN] for task, y in cut["train"].items()}),
        (x[TRAIN:], {task: y[TRAIN:] for task, y in cut["test"].items()}),
    )


def make_data(seed):
    """Data of trees: `(train, test)`; tasks are named `<group>_<number>`.

    Half of the training examples have labels that are wrong by about 1, for each group another half.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(TRAIN + TEST, INPUTS)).astype("float32")
    noisy, clean = {}, {}
    for group, size in TREES.items():
        common = features(x, WIDTH, rng)
        noise = np.where(x @ rng.normal(size=INPUTS) > 0, 1.0, 0.1)
        for task in (f"{group}_{number}" for number in range(size)):
            of_group = scaled(common @ rng.normal(size=WIDTH))
            clean[task] = scaled(of_group + OWN * scaled(features(x, 2, rng) @ rng.normal(size=2)))
            wrong = rng.choice([-1, 1], len(x)) * rng.uniform(0.8, 1.2, len(x))
            noisy[task] = clean[task] + noise * wrong
    return parts(x, noisy, clean)


def make_deep_data(seed):
    """Data of policies: as `make_data`, of residual layers, with little noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(TRAIN + TEST, INPUTS)).astype("float32")
    noisy, clean = {}, {}
    for group, size in POLICIES.items():
        found = x @ rng.normal(size=(INPUTS, WIDTH)) / np.sqrt(INPUTS)
        for _ in range(LAYERS):
            found = found + np.tanh(2.25 * found @ rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH))
        for task in (f"{group}_{number}" for number in range(size)):
            clean[task] = scaled(found @ rng.normal(size=WIDTH))
            noisy[task] = clean[task] + 0.1 * rng.normal(size=len(x))
    return parts(x, noisy, clean)


def heads(tasks):
    """A linear head for each task."""
    return {task: layers.Dense(1) for task in tasks}


def fit(model, data, epochs):
    """Compiles and trains a model; `keras.utils.set_random_seed` decides the order of examples."""
    model.compile(keras.optimizers.Adam(5e-3), loss="mse", jit_compile=False, steps_per_execution=10)
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
    return [layers.Dense(8, activation="tanh", name="low"), layers.Dense(4, activation="tanh", name="high")]


def grow(seed, price, epochs):
    """A tree by affinity, trained for `3 * epochs` whenever it split: `(parted, parameters, test error)`."""
    train, test = make_data(seed)
    quarter = TRAIN // 4
    validation = train[0][:quarter], {t: v[:quarter] for t, v in train[1].items()}
    rest = train[0][quarter:], {t: v[quarter:] for t, v in train[1].items()}
    keras.utils.set_random_seed(seed)
    left = 3

    def fit_for_a_while(model):
        nonlocal left
        left -= 1
        fit(model, rest, epochs)

    model, tree = keras_mtl.learned.branch_by_affinity(
        keras.Input((INPUTS,)),
        trunk(),
        heads(train[1]),
        train=fit_for_a_while,
        validation_data=validation,
        branch_cost=price,
    )
    if left:
        fit(model, rest, left * epochs)
    return parted(tree), model.count_params(), error(model, test)


def draw_branches(seed, epochs):
    """A tree by drawn parents, its weights as they are: `(parted, parameters, test error)`."""
    train, test = make_data(seed)
    keras.utils.set_random_seed(seed)
    model = keras_mtl.learned.learning_to_branch(
        keras.Input((INPUTS,)), trunk(), heads(train[1]), warmup_steps=100, temperature=5.0, decay=0.998
    )
    fit(model, train, 3 * epochs)
    tree = keras_mtl.learned.branches_of(model)
    model = keras_mtl.learned.extract_branches(model)
    fit(model, train, epochs)
    return parted(tree), model.count_params(), error(model, test)


def fixed(seed, groups, epochs):
    """A given tree, for comparison: `(parted, parameters, test error)`; `groups` makes groups of the list of tasks."""
    train, test = make_data(seed)
    keras.utils.set_random_seed(seed)
    tree = [groups(list(train[1]))] * 2
    model = keras_mtl.branched_sharing(keras.Input((INPUTS,)), trunk(), heads(train[1]), branches=tree)
    fit(model, train, 3 * epochs)
    return parted(tree), model.count_params(), error(model, test)


def planted(tasks):
    """The groups that tasks were made in."""
    return [[task for task in tasks if task[0] == group] for group in TREES]


def residual_blocks():
    """A linear stem and six blocks."""
    blocks = [layers.Dense(32, activation="tanh", name=f"block_{i}") for i in range(BLOCKS)]
    return [layers.Dense(32, name="stem"), *blocks]


def select(seed, sparsity, epochs):
    """A policy, trained anew; of all blocks where `sparsity` is `None`: `(groups part, blocks a task, test error)`."""
    train, test = make_deep_data(seed)
    half = TRAIN // 2
    first, second = (
        (train[0][part], {t: v[part] for t, v in train[1].items()}) for part in (np.s_[:half], np.s_[half:])
    )
    policy = {task: [True] * BLOCKS for task in train[1]}
    if sparsity is not None:
        keras.utils.set_random_seed(seed)
        model = keras_mtl.learned.adashare(
            keras.Input((INPUTS,)),
            residual_blocks(),
            heads(train[1]),
            sparsity=sparsity,
            sharing=0.005,
            form="code",
            warmup_steps=10 * epochs,
            decay=0.99,
        )
        model.compile(keras.optimizers.Adam(3e-3), loss="mse", jit_compile=False, steps_per_execution=10)
        keras_mtl.learned.fit_policy(
            model, first, second, epochs=4 * epochs, policy_optimizer=keras.optimizers.Adam(0.03), verbose=0
        )
        policy = keras_mtl.learned.policy_of(model)
    keras.utils.set_random_seed(seed)
    again = keras_mtl.learned.adashare(keras.Input((INPUTS,)), residual_blocks(), heads(train[1]), policy=policy)
    fit(again, train, 2 * epochs)
    runs = {task: np.array(chosen) for task, chosen in policy.items()}
    apart = bool((runs["a_0"] != runs["b_0"]).any() and (runs["a_1"] != runs["b_0"]).any())
    return apart, np.mean([chosen.sum() for chosen in runs.values()]), error(again, test)


def jobs(epochs):
    """Each row of the tables: title -> row -> function of a seed."""
    trees = {
        **{f"{PRICE} {p:g}": lambda seed, p=p: grow(seed, p, epochs) for p in PRICES},
        "by drawn parents": lambda seed: draw_branches(seed, epochs),
        "given: all stages shared": lambda seed: fixed(seed, lambda tasks: [tasks], epochs),
        "given: the planted groups": lambda seed: fixed(seed, planted, epochs),
        "given: a column for each task": lambda seed: fixed(seed, lambda tasks: [[task] for task in tasks], epochs),
    }
    half = max(1, epochs // 2)
    policies = {
        **{f"sparsity {s:g}": lambda seed, s=s: select(seed, s, half) for s in SPARSITIES},
        "given: all blocks": lambda seed: select(seed, None, half),
    }
    return {"Trees": trees, "Policies": policies}


def draw(results, path):
    """Error against parameters for trees, against blocks for policies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, (title, rows) in zip(figure.subplots(1, 2), results.items(), strict=True):
        learned = []
        for index, (name, runs) in enumerate(rows.items()):
            sizes, errors = np.array([run[1] for run in runs]), np.array([run[2] for run in runs])
            axis.plot(sizes, errors, ".", color=f"C{index}", alpha=0.4)
            axis.plot(
                sizes.mean(), errors.mean(), "s" if name.startswith("given") else "o", color=f"C{index}", label=name
            )
            if name.startswith((PRICE, "sparsity")):
                learned.append((sizes.mean(), errors.mean()))
        axis.plot(*zip(*learned, strict=True), color="gray", linewidth=1, zorder=0)
        axis.set_title(title)
        axis.set_xlabel("parameters" if title == "Trees" else "blocks that a task runs")
        axis.set_ylabel("test MSE (large: means; small: seeds)")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=16, help="of a tree between two splits")
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
    curves = np.array([[run[2] for run in results["Trees"][f"{PRICE} {price:g}"]] for price in PRICES])
    for high, low, change in zip(PRICES, PRICES[1:], np.diff(curves, axis=0), strict=False):
        console.print(
            f"Less error at {low:g} a branch than at {high:g} with {(change < 0).sum()} of {len(change)} seeds."
        )
    path = output_folder("learned_sharing-quick" if options.quick else "learned_sharing") / "results.png"
    draw(results, path)
    console.print(f"Picture: {path}", soft_wrap=True)


if __name__ == "__main__":
    main()
