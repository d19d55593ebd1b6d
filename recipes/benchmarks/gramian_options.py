"""What the cheaper Gramians cost in quality: bias of the direction and accuracy, on two overlaid digits.

`every=4`, `gramian_fraction=1/8`, `gradients="features"` and `"last_shared"` take the task weights from less than the
task gradients of the whole batch. For each, this prints the test accuracy after equal training with the same seeds and,
along one training run, the cosine between the direction that these weights give and the exact one: 1 means no bias.

    python recipes/benchmarks/gramian_options.py [--weighting upgrad] [--seeds 5] [--epochs 3] [--examples 6000]
"""

from shared import console, mean_and_spread, options_of, print_table

import keras
import numpy as np
import tensorflow as tf
from data.arrays import rows_of
from data.digits import two_digits
from multi_digits import BATCH, TASKS, build

import keras_mtl
from keras_mtl.training.places import PLACES

OPTIONS = {
    "parameters": {},
    "last_shared": {"gradients": "last_shared"},
    "features": {"gradients": "features"},
    "every=4": {"every": 4},
    "gramian_fraction=1/8": {"gramian_fraction": 0.125},
}


def compiled(name, weighting):
    """A LeNet for two digits, compiled with one of the options."""
    options = dict(OPTIONS[name])
    solver = type(keras_mtl.weighting.get(weighting))(every=options.pop("every", 1))
    model = build("equal", steps=1)
    model.compile(
        keras.optimizers.Adam(3e-3),
        loss={task: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for task in TASKS},
        metrics={task: ["accuracy"] for task in TASKS},
        weighting=solver,
        **options,
    )
    return model


class Bias(keras.callbacks.Callback):
    """Cosines between the exact direction and those of the options, on batches along the way."""

    def __init__(self, pictures, labels, every=20):
        super().__init__()
        self._pictures, self._labels, self._every, self._step = pictures, labels, every, 0
        self._last = None
        self.cosines = {name: [] for name in OPTIONS if name != "parameters"}

    def on_train_begin(self, logs=None):
        self._gramians = {place: tf.function(lambda x, y, p=place: self._gramian(p, x, y)) for place in PLACES}

    def _gramian(self, place, x, y):
        place = PLACES[place](self.model)
        place.collect(place.forward((x, y, None)))
        return place.gramian()[0]

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        since = self._step % self._every
        if since in (0, 3):
            start = (self._step * BATCH) % (len(self._pictures) - BATCH)
            batch = rows_of((self._pictures, self._labels), slice(start, start + BATCH))
            x, y = keras.tree.map_structure(tf.constant, batch)
            solve = self.model.weighting.solve
            exact = self._gramians["parameters"](x, y)
            weights = solve(exact)
            if since == 3 and self._last is not None:  # three steps later, as with every=4
                self.cosines["every=4"].append(_cosine(exact, weights, self._last))
                return
            self._last = weights
            sliced = self._gramians["parameters"](*rows_of((x, y), slice(-(-BATCH // 8))))
            self.cosines["gramian_fraction=1/8"].append(_cosine(exact, weights, solve(sliced)))
            for place in ("last_shared", "features"):
                self.cosines[place].append(_cosine(exact, weights, solve(self._gramians[place](x, y))))


def _cosine(gramian, one, other):
    """Cosine of two weighted sums of task gradients, from their Gramian alone."""
    gramian, one, other = (np.asarray(v, "float64") for v in (gramian, one, other))
    return one @ gramian @ other / np.sqrt((one @ gramian @ one) * (other @ gramian @ other))


def main():
    args = options_of(__doc__, weighting="upgrad", seeds=5, epochs=3, examples=6000)
    data = two_digits({"train": args.examples, "test": 2000})
    bias = Bias(*data["train"])
    scores = {name: {task: [] for task in TASKS} for name in OPTIONS}
    for seed in range(args.seeds):
        for name in OPTIONS:
            keras.utils.clear_session(free_memory=False)
            keras.utils.set_random_seed(seed)
            model = compiled(name, args.weighting)
            callbacks = [bias] if name == "parameters" and seed == 0 else []
            model.fit(*data["train"], batch_size=BATCH, epochs=args.epochs, callbacks=callbacks, verbose=0)
            values = model.evaluate(*data["test"], batch_size=500, verbose=0, return_dict=True)
            for task in TASKS:
                scores[name][task].append(100 * values[f"{task}_accuracy"])
            console.print(f"{name}, seed {seed}: " + ", ".join(f"{t} {scores[name][t][-1]:.1f} %" for t in TASKS))

    rows = []
    for name in OPTIONS:
        cosines = bias.cosines.get(name, [1.0])
        cells = [f"{np.median(cosines):.4f}", f"{np.percentile(cosines, 5):.4f}"]
        rows.append([name, *(mean_and_spread(scores[name][task]) for task in TASKS), *cells])
    accuracies = [f"{task} accuracy %" for task in TASKS]
    header = ["Gramian from", *accuracies, "cosine to exact: median", "5th percentile"]
    print_table(f"{args.weighting} on two overlaid digits, {args.seeds} seeds", header, rows)


if __name__ == "__main__":
    main()
