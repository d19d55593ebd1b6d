"""From 2,000 labels of the digits 0 to 4 to a few labels of 5 to 9: what is a trained trunk worth?

About five minutes on two cores, half a minute with --quick; downloads nothing.

    from scratch    the same layers with fresh weights
    frozen trunk    a new head on the trained trunk, nothing else is trained (`add_task(..., freeze="all")`)
    fine-tuned      the new head and the trunk are trained
    falling rates   the same, with rates that fall by half from stage to stage towards the inputs

All take 200 steps of 32 pictures. A control tells how well the network still knows the digits 0 to 4 afterwards.

What it can show: how many labels a trunk of a related task is worth, over seeds that draw pictures and weights. What it
cannot: that this holds for tasks that have less in common, or with more steps.

    python recipes/transfer_digits.py [--quick] [--seeds 5] [--steps 200]
"""

from functools import lru_cache

from common import command_line, console, mean_and_spread, report, start_again, study

import keras
import numpy as np
import tensorflow as tf
from data.digits import load_digits

import keras_mtl

OLD, NEW = "low_digits", "high_digits"
SCRATCH, FROZEN, TUNED, FALLING = MODELS = ("from scratch", "frozen trunk", "fine-tuned", "falling rates")
LABELS = (10, 50, 250)
MANY, TEST_OLD, TEST_NEW = 2000, 500, 1000
RATE, BATCH, AT_ONCE = 2e-3, 32, 10


def split(images, classes, seed):
    """Pictures and classes from 0 to 4 for each part; those with labels of the new task have each class as often."""
    rng = np.random.default_rng(seed)
    low, high = (rng.permutation(np.flatnonzero(mask)) for mask in (classes < 5, classes >= 5))
    pool = high[TEST_NEW:]
    by_class = [pool[classes[pool] == digit] for digit in range(5, 10)]
    rows = {"many": low[:MANY], "test old": low[MANY : MANY + TEST_OLD], "test new": high[:TEST_NEW]}
    rows |= {count: np.concatenate([of_one[: count // 5] for of_one in by_class]) for count in LABELS}
    return {part: (images[chosen, :, :, None], classes[chosen] % 5) for part, chosen in rows.items()}


def build():
    layers = keras.layers
    return keras_mtl.hard_sharing(
        keras.Input((28, 28, 1)),
        stages=[
            [layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D()],
            [layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D()],
            [layers.Flatten(), layers.Dense(32, activation="relu")],
        ],
        heads={OLD: layers.Dense(5)},
    )


def extend(arm=None):
    """A network with the new head, of which an arm's part is to be trained."""
    model = build()
    model.get_layer(OLD).trainable = False
    return model.add_task(NEW, keras.layers.Dense(5), at="shared_stage_3", freeze="all" if arm == FROZEN else None)


def compiled(model, task, falling=False):
    optimizer = keras.optimizers.Adam(RATE)
    model.compile(
        keras_mtl.models.discriminative_rates(model, optimizer, factor=0.5) if falling else optimizer,
        loss={task: keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        steps_per_execution=AT_ONCE,
    )
    return model


def fit(model, x, y, steps, seed):
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed).repeat().batch(BATCH)
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)


def main():
    options = command_line(__file__, __doc__, steps=(200, "of each training; 20 under --quick"))
    options.models = MODELS
    steps = 20 if options.quick else options.steps
    images, classes = load_digits()
    data_of = lru_cache(1)(lambda seed: split(images, classes, seed))
    models = {arm: compiled(extend(arm), NEW, falling=arm == FALLING) for arm in MODELS[1:]}
    models[SCRATCH] = models[TUNED]  # what differs are the weights at the start
    first = compiled(build(), OLD)
    before, same = {}, []

    def right(model, task, part):
        x, y = part
        return 100 * np.mean(model.predict(x, batch_size=500, verbose=0)[task].argmax(axis=1) == y)

    @lru_cache(1)
    def learn_first(seed):
        """The old task; gives the outputs of its test pictures."""
        data = data_of(seed)
        keras.utils.set_random_seed(seed)
        start_again(first, build().get_weights())
        fit(first, data["many"][0], {OLD: data["many"][1]}, 3 * steps, seed)
        before[seed] = right(first, OLD, data["test old"])
        said = first.predict(data["test old"][0], batch_size=500, verbose=0)[OLD]
        return said, {count: extend().get_weights() for count in LABELS}  # the same new weights for all arms

    def run(name, seed, callbacks):
        data, model, found = data_of(seed), models[name], {}
        said, fresh = learn_first(seed)
        for count in LABELS:
            start_again(model, fresh[count])
            if name != SCRATCH:
                for layer in (layer for layer in first.layers if layer.weights):
                    model.get_layer(layer.name).set_weights(layer.get_weights())
            fit(model, data[count][0], {NEW: data[count][1]}, steps, seed)
            found[f"new {count}"] = right(model, NEW, data["test new"])
            found[f"old {count}"] = right(model, OLD, data["test old"])
            if name == FROZEN:
                same.append(np.array_equal(said, model.predict(data["test old"][0], batch_size=500, verbose=0)[OLD]))
        return found

    of_new, of_old = ({f"{task} {count}": f"{count} labels" for count in LABELS} for task in ("new", "old"))
    how = {"reference": SCRATCH, "paired": True, "comparisons": len(LABELS), "gain": False, "logs": False}
    results = study(run, options, of_new, title="Digits 5 to 9: test accuracy in percent", **how)
    knew = {name: found for name, found in results.items() if name != SCRATCH}
    report(knew, options, of_old, title="Digits 0 to 4, afterwards")
    console.print(
        f"Digits 0 to 4 before: {mean_and_spread(list(before.values()))}. With a frozen trunk their outputs are "
        f"{'the same bit for bit' if all(same) else 'NOT the same'}."
    )


if __name__ == "__main__":
    main()
