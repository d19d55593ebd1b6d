"""Emoji by their looks, by their names, and by both: does a second modality help?

About ten minutes on two cores, half a minute with --quick; the data come with packages (see requirements-data.txt).

Two tasks for each of 1,372 emoji: which of 8 groups, and which of the subgroups that have ten emoji or more. A picture
of 20 x 20 pixels goes through convolutions, the name's letter trigrams through a dense layer. `inputs` is a dict of the
modalities, and the first stage takes it as it is.

What it shows: what each modality is worth alone and beside the other, on emoji never seen. What it does not: names and
groups were given by the same people.

    python recipes/emoji.py [--quick] [--seeds 5] [--epochs 12]
"""

from common import command_line, console, study

import keras
import numpy as np
from data import emoji
from data.arrays import rows_of
from keras import layers

import keras_mtl
from keras_mtl.retrieval import hashed_trigrams

TRIGRAMS, SIZE = 600, 20
TASKS = ("group", "subgroup")
BOTH = "picture and name"
MODELS = {"picture": ("picture",), "name": ("name",), BOTH: ("picture", "name")}


def make_data(table, seed):
    """Training and test data, each `(x, y)`: a fifth of the emoji is for testing."""
    order = np.random.default_rng(seed).permutation(len(table["names"]))
    x = {"picture": table["pictures"], "name": hashed_trigrams(list(table["names"]), TRIGRAMS)}
    y = {task: table[task][:, None] for task in TASKS}
    cut = len(order) // 5
    return rows_of((x, y), order[cut:]), rows_of((x, y), order[:cut])


def see(picture):
    for filters in (16, 32, 64):
        picture = layers.Conv2D(filters, 3, padding="same", activation="relu")(picture)
        picture = layers.MaxPooling2D()(picture)
    return layers.Dense(64, activation="relu")(layers.Flatten()(picture))


def read(name):
    return layers.Dense(64, activation="relu")(name)


def build(modalities, classes):
    """The model of some modalities: a stage that takes them, one that takes what they give, and two heads."""
    shapes, through = {"picture": (SIZE, SIZE, 3), "name": (TRIGRAMS,)}, {"picture": see, "name": read}
    inputs = {modality: keras.Input(shapes[modality], name=modality) for modality in modalities}
    features = [through[modality](tensor) for modality, tensor in inputs.items()]
    joined = layers.Concatenate()(features) if len(features) > 1 else features[0]
    return keras_mtl.hard_sharing(
        {modality: keras.Input(shapes[modality], name=modality) for modality in modalities},
        [keras.Model(inputs, joined, name="senses"), [layers.Dropout(0.3), layers.Dense(64, activation="relu")]],
        {task: layers.Dense(count) for task, count in classes.items()},
    )


def main():
    options = command_line(__file__, __doc__, models=MODELS, epochs=(12, 1))
    table = emoji.load(SIZE)
    labelled = int((table["subgroup"] != emoji.NOT_LABELLED).sum())
    share = 100 * np.bincount(table["group"]).max() / len(table["group"])
    console.print(
        f"{len(table['names']):,} emoji in {len(table['groups'])} groups, the largest with {share:.1f} %; "
        f"{labelled:,} in {len(table['subgroups'])} subgroups"
    )

    def run(name, seed, callbacks):
        (x, y), (test_x, test_y) = make_data(table, seed)
        model = build(MODELS[name], {task: len(table[f"{task}s"]) for task in TASKS})
        model.compile(
            keras.optimizers.Adam(2e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics={task: ["accuracy"] for task in TASKS},
            missing={"subgroup": emoji.NOT_LABELLED},
            jit_compile=False,
        )
        x, test_x = ({modality: of_all[modality] for modality in MODELS[name]} for of_all in (x, test_x))
        model.fit(x, y, batch_size=64, epochs=options.epochs, callbacks=callbacks, verbose=0)
        if name == BOTH and seed == options.seeds[0]:
            keras_mtl.plot_sharing(model, options.folder / "sharing.png")
        logs = model.evaluate(test_x, test_y, batch_size=512, verbose=0, return_dict=True)
        return {"parameters": model.count_params(), **{task: 100 * logs[f"{task}_accuracy"] for task in TASKS}}

    study(run, options, TASKS, title="Right on new emoji, %", reference=BOTH, paired=True, gain=False)


if __name__ == "__main__":
    main()
