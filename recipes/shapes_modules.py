"""Module networks on SHAPES: are they right about questions that were never asked?

"Is there something red above a square?" about pictures of 3 x 3 cells. A network for each of three kinds of questions
is put together from four modules, find, transform, and, answer, which learn from the 212 original training queries on
generated pictures (Andreas et al., CVPR 2016). For contrast, one network that reads the question's words with a GRU
gets the same examples.

What it shows: accuracy on the original validation split, real pictures and 16 queries none of which is a training
query, beside that on new pictures for the training queries. What it does not: layouts are given, by the queries' own
brackets; nothing here reads English.

    python recipes/shapes_modules.py [--quick] [--seeds 5] [--epochs 8]

Pictures and logs for TensorBoard go to runs/shapes_modules/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from common import ProgressOfFit, console, mean_and_spread, output_folder, progress
from data import shapes
from rich.table import Table

import keras_mtl

LAYOUTS = ("(is red blue)", "(is red (above blue))", "(is red (above (above blue)))")
MODELS = ("modules", "one network")


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


def module_network():
    """A network for each layout, all of the same modules."""
    modules = {
        "find": keras_mtl.modular.FindModule(),
        "transform": keras_mtl.modular.TransformModule(),
        "and": keras_mtl.modular.CombineModule(),
        "answer": keras_mtl.modular.MeasureModule(),
    }
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
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    images, queries, answers = examples
    if name == "modules":
        network = module_network()
        model = keras_mtl.own_inputs(network)
        data = {"x": by_signature(network, *examples, batch_size=64, seed=seed), "shuffle": False}

        def predict(x, asked):
            return keras_mtl.modular.predict_by_layout(network, x, asked, batch_size=1024)
    else:
        network = model = one_network()
        data = {"x": {"image": images, "words": as_words(queries)}, "y": answers[:, None], "batch_size": 64}

        def predict(x, asked):
            return model.predict({"image": x, "words": as_words(asked)}, batch_size=1024, verbose=0)["answer"]

    class Accuracy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for test, (x, asked, right) in tests.items():
                found[test].append(float(np.mean((predict(x, asked)[:, 0] > 0) == (right > 0.5))))

    found = {test: [] for test in tests}
    model.compile(keras.optimizers.Adam(3e-3), loss=loss, jit_compile=False)
    model.fit(**data, epochs=epochs, callbacks=[Accuracy(), *callbacks], verbose=0)
    return network, found


def draw_curves(curves, path):
    """Accuracy over epochs, mean and range over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for i, (name, by_test) in enumerate(curves.items()):
        for style, (test, runs) in zip(("-", "--"), by_test.items(), strict=True):
            runs = 100 * np.array(runs)
            epochs = np.arange(1, runs.shape[1] + 1)
            axis.plot(epochs, runs.mean(0), style, color=f"C{i}", label=f"{name}, {test}")
            axis.fill_between(epochs, runs.min(0), runs.max(0), color=f"C{i}", alpha=0.12)
    axis.set_xlabel("epoch")
    axis.set_ylabel("right answers, %: mean and range over seeds")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def draw_attention(network, tests, path, count=4):
    """What the modules attend to, for a few questions of the validation split with one relation."""
    from matplotlib.figure import Figure

    images, queries, answers = tests["new questions"]
    fit = [i for i, query in enumerate(queries) if query.count("(") == 2]
    chosen = [next(i for i in fit if queries[i] == query) for query in sorted({queries[i] for i in fit})[:count]]
    features = keras.Model(network.input["image"], network.get_layer("shared_stage_1").output)
    find, transform = (network.get_layer(f"shared_{name}") for name in ("find", "transform"))
    figure = Figure(figsize=(9, 2.1 * len(chosen)), layout="constrained")
    for row, i in zip(figure.subplots(len(chosen), 5, squeeze=False), chosen, strict=True):
        _, thing, (relation, other) = shapes.parse(queries[i])
        seen = features(images[i : i + 1])
        word = {
            w: np.eye(len(shapes.VOCABULARY), dtype="float32")[[shapes.VOCABULARY.index(w)]] for w in shapes.VOCABULARY
        }
        first, second = find([seen, word[thing]]), find([seen, word[other]])
        moved = transform([seen, word[relation], second])
        pictures = {f"find {thing}": first, f"find {other}": second, relation: moved, "and": first * moved}
        row[0].imshow(images[i])
        row[0].set_title(f"{queries[i][1:-1]}? {'yes' if answers[i] else 'no'}", fontsize=8)
        for axis, (title, attention) in zip(row[1:], pictures.items(), strict=True):
            axis.imshow(keras.ops.convert_to_numpy(attention)[0, ..., 0], vmin=0, vmax=1, cmap="gray")
            axis.set_title(title, fontsize=8)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one short epoch: shows that it runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    epochs, scenes, each = (1, 200, 4) if options.quick else (options.epochs, 4000, 64)
    folder = output_folder("shapes_modules-quick" if options.quick else "shapes_modules")
    curves = {name: {"new pictures": [], "new questions": []} for name in MODELS}
    with progress() as bar:
        row = bar.add_task("", total=len(seeds) * len(MODELS) * epochs)
        for seed in seeds:
            queries = shapes.train_queries()
            examples = shapes.make_examples(queries, scenes, each, seed)
            tests = {
                "new pictures": shapes.make_examples(queries, scenes // 4, max(2, each // 8), seed + 1000),
                "new questions": shapes.load_validation(),
            }
            for name in MODELS:
                logs = keras.callbacks.TensorBoard(folder / "logs" / f"{name.replace(' ', '_')}-{seed}")
                shown = ProgressOfFit(bar, row, f"{name}, seed {seed}")
                network, found = train(name, examples, tests, seed, epochs, [shown, logs])
                for test, values in found.items():
                    curves[name][test].append(values)
                if name == "modules" and seed == seeds[0]:
                    draw_attention(network, tests, folder / "attention.png")
                    keras_mtl.plot_sharing(network, folder / "sharing.png")
    table = Table(title=f"Right answers after {epochs} epochs, %, {len(seeds)} seeds", title_justify="left")
    table.add_column("model")
    for test in curves[MODELS[0]]:
        table.add_column(test, justify="right")
    for name, by_test in curves.items():
        table.add_row(name, *(mean_and_spread(100 * np.array(runs)[:, -1]) for runs in by_test.values()))
    console.print(table)
    console.print(f"'no' is right for {100 * (1 - tests['new questions'][2].mean()):.1f} % of the new questions")
    draw_curves(curves, folder / "accuracy.png")
    console.print(f"Pictures: {folder}; logs: tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
