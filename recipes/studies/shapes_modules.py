"""Module networks on SHAPES: are they right about questions that were never asked?

About half an hour on two cores, two minutes with --quick; downloads nothing.

"Is there something red above a square?" about pictures of 3 x 3 cells. A network for each of three kinds of questions
is put together from four modules, which learn from the 212 original training queries on generated pictures (Andreas et
al., CVPR 2016). For contrast, one network that reads the question's words with a GRU gets the same examples.

What it shows: accuracy on the original validation split, real pictures and 16 queries none of which is a training
query, beside that on new pictures for the training queries. What it does not: layouts are given, by the queries' own
brackets. And these are not the modules of the paper, which reports about 91 %: transform is a convolution here, and
measure another layer. `--models "the paper's modules"` trains such, which were right in 63 to 69 % here.

    python recipes/studies/shapes_modules.py [--quick] [--seeds 5] [--epochs 8]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import command_line, console, study

import keras
import numpy as np
import tensorflow as tf
from data import shapes

import keras_mtl

LAYOUTS = ("(is red blue)", "(is red (above blue))", "(is red (above (above blue)))")
MODULES, PAPER, NETWORK = MODELS = ("modules", "the paper's modules", "one network")
HIDDEN = 32  # units of the paper's perceptrons, which it does not tell


class Perceptron(keras_mtl.modular.NeuralModule):
    """The paper's transform: two dense layers on the whole attention, with weights of the word's own."""

    takes, takes_word = ("attention",), True

    def build(self, input_shape):
        (_, words), (_, height, width, _) = input_shape[1:]
        cells = height * width
        self.first = self.add_weight(shape=(words, cells, HIDDEN), name="first")
        self.second = self.add_weight(shape=(words, HIDDEN, cells), name="second")

    def call(self, inputs):
        _, word, attention = inputs
        seen = keras.ops.relu(keras.ops.einsum("bw,wch,bc->bh", word, self.first, keras.layers.Flatten()(attention)))
        moved = keras.ops.relu(keras.ops.einsum("bw,whc,bh->bc", word, self.second, seen))
        return keras.ops.reshape(moved, keras.ops.shape(attention))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[2])


class Stacked(keras_mtl.modular.NeuralModule):
    """The paper's combine: a convolution of both attentions, and what is above 0 of it."""

    takes = ("attention", "attention")

    def build(self, input_shape):
        self.mix = keras.layers.Conv2D(1, 1, activation="relu")
        self.mix.build((*input_shape[1][:-1], 2))

    def call(self, inputs):
        return self.mix(keras.ops.concatenate(inputs[1:], axis=-1))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[1])


class Dense(keras_mtl.modular.NeuralModule):
    """The paper's measure: two dense layers on the whole attention."""

    takes, gives = ("attention",), "answer"

    def build(self, input_shape):
        self.read = keras.Sequential(
            [keras.layers.Flatten(), keras.layers.Dense(HIDDEN, activation="relu"), keras.layers.Dense(1)]
        )
        self.read.build(input_shape[1])

    def call(self, inputs):
        return self.read(inputs[1])

    def compute_output_shape(self, input_shape):
        return (input_shape[1][0], 1)


def look():
    """Layers that make a feature vector for each of the 3 x 3 cells."""
    layers = keras.layers
    return [
        layers.Reshape((3, 10, 3, 10, 3)),
        layers.Permute((1, 3, 2, 4, 5)),
        layers.Reshape((3, 3, 300)),
        layers.Dense(64, activation="relu"),
        layers.Dense(64, activation="relu"),
    ]


def module_network(paper=False):
    """A network for each layout, all of the same modules."""
    ours = keras_mtl.modular
    kinds = (Perceptron, Stacked, Dense) if paper else (ours.TransformModule, ours.CombineModule, ours.MeasureModule)
    modules = {"find": ours.FindModule()}
    modules |= {name: kind() for name, kind in zip(("transform", "and", "answer"), kinds, strict=True)}
    inputs = keras.Input((30, 30, 3), name="image")
    return keras_mtl.modular.neural_module_network(inputs, [look()], modules, LAYOUTS, vocabulary=shapes.VOCABULARY)


def one_network():
    """A network that reads the question and sees the picture."""
    layers = keras.layers
    image, words = keras.Input((30, 30, 3), name="image"), keras.Input((5,), dtype="int32", name="words")
    seen = image
    for layer in [*look(), layers.Flatten()]:
        seen = layer(seen)
    read = layers.GRU(64)(layers.Embedding(2 + len(shapes.VOCABULARY), 32)(words))
    hidden = layers.Dense(128, activation="relu")(layers.Concatenate()([seen, read]))
    answer = layers.Dense(1)(layers.Dense(128, activation="relu")(hidden))
    return keras_mtl.MultiTaskModel({"image": image, "words": words}, {"answer": answer}, name="one_network")


def as_words(queries):
    """Queries as numbers of words, behind zeros."""
    known = {"is": 1, **{word: i for i, word in enumerate(shapes.VOCABULARY, start=2)}}
    read = [[known[word] for word in query.replace("(", " ").replace(")", " ").split()] for query in queries]
    return np.array([[0] * (5 - len(row)) + row for row in read], "int32")


def by_signature(network, images, queries, answers, batch_size, seed):
    """Batches of one signature each, for the network with inputs of its own for each."""
    datasets = {}
    for task, (rows, words) in keras_mtl.modular.group_by_layout(network, queries).items():
        examples = {"image": images[rows], "words": words}, answers[rows, None]
        datasets[task] = tf.data.Dataset.from_tensor_slices(examples).shuffle(len(rows), seed=seed)
    return keras_mtl.data.mix(datasets, "proportional", inputs="own", batch_size=batch_size, seed=seed)


def train(name, examples, tests, seed, epochs, callbacks=()):
    """Trains a model: the model, and the share of right answers on each test set after each epoch."""
    keras.utils.set_random_seed(seed)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    images, queries, answers = examples
    if name != NETWORK:
        network = module_network(paper=name == PAPER)
        model = keras_mtl.own_inputs(network)
        data = {"x": by_signature(network, *examples, batch_size=64, seed=seed), "shuffle": False}

        def predict(x, asked):
            return keras_mtl.modular.predict_by_layout(network, x, asked, batch_size=1024)
    else:
        network = model = one_network()
        data = {"x": {"image": images, "words": as_words(queries)}, "y": answers[:, None], "batch_size": 64}

        def predict(x, asked):
            return model.predict({"image": x, "words": as_words(asked)}, batch_size=1024, verbose=0)["answer"]

    found = {test: [] for test in tests}

    def count(epoch, logs):
        for test, (x, asked, right) in tests.items():
            found[test].append(float(np.mean((predict(x, asked)[:, 0] > 0) == (right > 0.5))))

    model.compile(keras.optimizers.Adam(3e-3), loss=loss, jit_compile=False)
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=count), *callbacks]
    model.fit(**data, epochs=epochs, callbacks=callbacks, verbose=0)
    return network, found


def main():
    options = command_line(__file__, __doc__, models=MODELS, default=(MODULES, NETWORK), epochs=(8, 1))
    scenes, each = (200, 4) if options.quick else (4000, 64)
    queries, new = shapes.train_queries(), shapes.load_validation()

    @lru_cache(1)
    def data_of(seed):
        pictures = shapes.make_examples(queries, scenes // 4, max(2, each // 8), seed + 1000)
        return shapes.make_examples(queries, scenes, each, seed), {"new pictures": pictures, "new questions": new}

    def run(name, seed, callbacks):
        examples, tests = data_of(seed)
        network, found = train(name, examples, tests, seed, options.epochs, callbacks)
        if name == MODULES and seed == options.seeds[0]:
            keras_mtl.plot_sharing(network, options.folder / "sharing.png")
        curves = {f"{test} curve": 100 * np.array(values) for test, values in found.items()}
        return {**{test: 100 * values[-1] for test, values in found.items()}, **curves}

    scores = ("new pictures", "new questions")
    how = {"along": {f"{test} curve": test for test in scores}, "axes": {"ylabel": "right answers, %"}}
    study(run, options, scores, title="Right answers, %", reference=NETWORK, gain=False, **how)
    console.print(f"'no' is right for {100 * (1 - new[2].mean()):.1f} % of the new questions")


if __name__ == "__main__":
    main()
