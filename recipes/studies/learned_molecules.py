"""Learned sharing on twelve properties of molecules, at equal numbers of parameters.

About a quarter of an hour on two cores, a minute with --quick; the data come with the package qm9pack (see
requirements-data.txt).

`branch_by_affinity`, `learning_to_branch` (trees of two stages) and `adashare` (which of three residual blocks a
property runs) learn on thin networks what to share. What they find is trained anew, as wide as the budget of parameters
allows, and so are hard sharing and a column for each property.

What it shows: mean absolute error on test molecules, each seed with molecules and initial weights of its own. What it
does not: what learning to share costs, which comes on top; nor which price of a branch or sparsity is best: they were
chosen once, with a seed that is not in the table.

    python recipes/studies/learned_molecules.py [--quick] [--seeds 5] [--epochs 20]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import command_line, console, report, study

import keras
import numpy as np
from data import qm9
from keras import layers
from learned_sharing import learn_policy

import keras_mtl

PARAMETERS = 29_000
ROWS = {"train": 3000, "validation": 1000, "test": 5000}
THIN, PRICE, BRANCHES, BLOCKS, SPARSITY = 16, 0.03, 3, 3, 0.02
TREE, DRAWN, POLICY = "tree by affinity", "tree by drawn parents", "policy"
COLUMNS, HARD, ALL_BLOCKS = "a column for each", "hard sharing", "hard sharing, blocks"
MODELS = (COLUMNS, HARD, TREE, DRAWN, ALL_BLOCKS, POLICY)


def stages(width):
    return [layers.Dense(width, activation="relu", name=f"hidden_{i}") for i in range(2)]


def blocks(width):
    residual = [layers.Dense(width, activation="relu", name=f"block_{i}") for i in range(BLOCKS)]
    return [layers.Dense(width, activation="relu", name="stem"), *residual]


def heads():
    return {task: layers.Dense(1) for task in qm9.TASKS}


def fit(model, data, epochs, callbacks=()):
    model.compile(keras.optimizers.Adam(2e-3), loss="mae", jit_compile=False, steps_per_execution=8)
    model.fit(*data, batch_size=64, epochs=epochs, callbacks=list(callbacks), verbose=0)


def learn(name, data, epochs, picture=None):
    """What a method finds on a thin network, or what a row is given: a tree, or a policy."""
    tasks = list(qm9.TASKS)
    inputs = keras.Input(data["train"][0].shape[1:])
    if name == TREE:
        return keras_mtl.learned.branch_by_affinity(
            inputs,
            stages(THIN),
            heads(),
            train=lambda model: fit(model, data["train"], epochs // 3),
            validation_data=data["validation"],
            branch_cost=PRICE,
            picture=picture,
        )[1]
    if name == DRAWN:
        steps = epochs * -(-len(data["train"][0]) // 64)
        model = keras_mtl.learned.learning_to_branch(
            inputs, stages(THIN), heads(), num_branches=BRANCHES, warmup_steps=steps // 10, decay=0.05 ** (1 / steps)
        )
        fit(model, data["train"], epochs)
        return keras_mtl.learned.branches_of(model)
    if name == POLICY:
        steps = epochs * -(-(len(data["train"][0]) // 2) // 64)
        how = {"sparsity": SPARSITY, "warmup_steps": steps // 4, "decay": 0.05 ** (1 / steps)}
        compiled = {"optimizer": keras.optimizers.Adam(2e-3), "loss": "mae", "steps_per_execution": 8}
        return learn_policy((inputs, blocks(THIN), heads()), data["train"], epochs, compiled, **how)
    if name == ALL_BLOCKS:
        return {task: [True] * BLOCKS for task in tasks}
    return [[tasks] if name == HARD else [[task] for task in tasks]] * 2


def build(found, size, width):
    """The model of a tree or a policy."""
    inputs = keras.Input((size,))
    if isinstance(found, dict):
        return keras_mtl.learned.adashare(inputs, blocks(width), heads(), policy=found)
    return keras_mtl.branched_sharing(inputs, stages(width), heads(), branches=found)


def width_of(found, size):
    """The width whose number of parameters, which grows with its square, is closest to the budget."""
    few = [build(found, size, width).count_params() for width in (1, 2, 3)]
    counts = np.polyval(np.polyfit((1, 2, 3), few, 2), np.arange(1, 513))
    return int(np.abs(counts - PARAMETERS).argmin()) + 1


def described(found):
    """A tree's groups at both stages, or how many properties run each block."""
    if isinstance(found, dict):
        return "properties that run each block: " + ", ".join(str(n) for n in np.sum(list(found.values()), axis=0))
    return "; ".join(f"{len(groups)} branches of " + ", ".join("+".join(group) for group in groups) for groups in found)


def main():
    options = command_line(__file__, __doc__, models=MODELS, epochs=(20, 3))
    rows = dict.fromkeys(ROWS, 300) if options.quick else ROWS
    data_of = lru_cache(1)(lambda seed: qm9.standardized(qm9.qm9(rows, width=200, seed=seed)))

    def run(name, seed, callbacks):
        data = data_of(seed)
        found = learn(name, data, options.epochs, str(options.folder / "tree.png") if name == TREE else None)
        if name in (TREE, DRAWN, POLICY):
            console.print(f"{name}, seed {seed}: {described(found)}", soft_wrap=True)
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        size = data["train"][0].shape[1]
        model = build(found, size, width_of(found, size))
        fit(model, data["train"], options.epochs, callbacks)
        tested = model.evaluate(*data["test"], batch_size=1000, verbose=0, return_dict=True)
        errors = {task: 100 * tested[f"{task}_loss"] for task in model.tasks}
        return {"mean of 12": np.mean(list(errors.values())), **errors, "parameters": model.count_params()}

    # Eight comparisons: five with columns, two with hard sharing, one with hard sharing of blocks.
    scores = ["mean of 12"]
    how = {"title": "Mean absolute error x 100", "lower": True, "paired": True, "comparisons": 8}
    results = study(run, options, scores, reference=COLUMNS, gain=False, **how)
    report(results, options, list(qm9.TASKS), title="By property", reference=COLUMNS, lower=True, verdict=False)
    for reference, learned in ((HARD, (TREE, DRAWN)), (ALL_BLOCKS, (POLICY,))):
        part = {name: results[name] for name in (reference, *learned) if name in results}
        report(part, options, scores, reference=reference, gain=False, **how)


if __name__ == "__main__":
    main()
