"""Sharing that is learned: do the methods find which tasks were made to belong together?

About twenty minutes on two cores, a minute with --quick; downloads nothing.

Regressions in two planted groups (data/planted_groups.py). For trees, tasks of a group are made of the same features
and have the same wrong labels, and the last stage is too narrow for both groups; for policies they are made of the same
three layers. `branch_by_affinity` runs at several prices of a branch, `learning_to_branch` draws each branch's parent,
and `adashare` learns, at several strengths of sparsity, which of six residual blocks each task runs, which is trained
anew. Each seed has tasks, data and initial weights of its own.

What it shows: how often the groups part, and what error the parameters or blocks buy, on test labels without noise.
What it does not: that learned sharing beats a good guess on data that nobody planted.

    python recipes/studies/learned_sharing.py [--quick] [--seeds 5] [--epochs 16]
"""

import parent  # noqa: F401
from common import by_group, command_line, console, dots, may_state, new_figure, report, trained

import keras
import numpy as np
from data.arrays import split_at
from data.planted_groups import INPUTS, TRAIN, TREES, make_data, make_deep_data
from keras import layers

import keras_mtl

PRICES = (0.3, 0.07, 0.03, 0.01)
SPARSITIES = (0.0, 0.02, 0.1)
PRICE = "by affinity, a branch costs"
BLOCKS = 6


def heads(tasks):
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
    return [layers.Dense(8, activation="tanh", name="low"), layers.Dense(4, activation="tanh", name="high")]


def grow(seed, price, epochs):
    """A tree by affinity, trained for `3 * epochs` whenever it split: `(parted, parameters, test error)`."""
    train, test = make_data(seed)
    validation, rest = split_at(train, TRAIN // 4)
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
    blocks = [layers.Dense(32, activation="tanh", name=f"block_{i}") for i in range(BLOCKS)]
    return [layers.Dense(32, name="stem"), *blocks]


def learn_policy(given, data, epochs, compiled, **how):
    """Which blocks each task runs, learned with half of the data for weights and half for the policy."""
    parts = split_at(data, len(data[0]) // 2)
    model = keras_mtl.learned.adashare(*given, sharing=0.005, **how)
    model.compile(**compiled, jit_compile=False)
    adam = keras.optimizers.Adam(0.03)
    keras_mtl.learned.fit_policy(model, *parts, epochs=epochs, policy_optimizer=adam, verbose=0)
    return keras_mtl.learned.policy_of(model)


def select(seed, sparsity, epochs):
    """A policy, trained anew; of all blocks where `sparsity` is `None`: `(groups part, blocks a task, test error)`."""
    train, test = make_deep_data(seed)
    policy = {task: [True] * BLOCKS for task in train[1]}
    if sparsity is not None:
        keras.utils.set_random_seed(seed)
        how = {"sparsity": sparsity, "warmup_steps": 10 * epochs, "decay": 0.99}
        compiled = {"optimizer": keras.optimizers.Adam(3e-3), "loss": "mse", "steps_per_execution": 10}
        given = (keras.Input((INPUTS,)), residual_blocks(), heads(train[1]))
        policy = learn_policy(given, train, 4 * epochs, compiled, **how)
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
    figure = new_figure(10, 4)
    for axis, (title, rows) in zip(figure.subplots(1, 2), results.items(), strict=True):
        for index, (name, found) in enumerate(rows.items()):
            mark, means = "s" if name.startswith("given") else "o", (np.mean(found["size"]), np.mean(found["MSE"]))
            axis.plot(found["size"], found["MSE"], ".", color=f"C{index}", alpha=0.4)
            axis.plot(*means, mark, color=f"C{index}", label=name)
        xlabel = "parameters" if title == "Trees" else "blocks that a task runs"
        axis.set(title=title, xlabel=xlabel, ylabel="test MSE (large: means; small: seeds)")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main():
    options = command_line(__file__, __doc__, epochs=(16, 1))  # of a tree between two splits
    rows = {(title, name): job for title, of_title in jobs(options.epochs).items() for name, job in of_title.items()}

    def run(name, seed, callbacks):
        return dict(zip(("apart", "size", "MSE"), rows[name](seed), strict=True))

    found = trained(run, options, list(rows), logs=False)
    results = by_group(found, {"Trees": "Trees", "Policies": "Policies"})
    for title, size in (("Trees", "parameters"), ("Policies", "blocks of a task")):
        scores = {"apart": "groups part", "size": size, "MSE": "test MSE"}
        digits = {"apart": 1, "size": 0 if title == "Trees" else 1, "MSE": 3}
        report(results[title], options, scores, title=title, digits=digits)
    if may_state(options):
        curves = np.array([results["Trees"][f"{PRICE} {price:g}"]["MSE"] for price in PRICES])
        for high, low, change in zip(PRICES, PRICES[1:], np.diff(curves, axis=0), strict=False):
            fewer = (change < 0).sum()
            console.print(f"Less error at {low:g} a branch than at {high:g} with {fewer} of {len(change)} seeds.")
    draw(results, options.folder / "costs.png")
    dots(results, {"size": "parameters, or blocks", "MSE": "test MSE"}, options.folder / "results.png")
    console.print(f"Pictures: {options.folder}", soft_wrap=True)


if __name__ == "__main__":
    main()
