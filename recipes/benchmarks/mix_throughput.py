"""What `keras_mtl.data.mix` costs over the `tf.data` pipelines that it is made of.

Three tasks' batches are drawn from the bare pipelines, one after the other,
and as many from mixtures of them, in a graph, as `fit` draws them. Every turn
has fresh iterators, so that no buffer is full before the clock starts; the
turns are interleaved, and what counts is the ratio of the speeds within one
turn, in wall time and in CPU time. "In `fit`" is what `MultiTaskModel.fit`
makes of a mixture; "as data set" what other loops get.

    python recipes/benchmarks/mix_throughput.py [--data rows images tiny] [--batches 600] [--rounds 7]
"""

import time

from shared import options_of, print_table

import keras
import numpy as np
import tensorflow as tf

import keras_mtl

TASKS = ("a", "b", "c")


class Live(keras_mtl.data.Uniform):
    """Uniform, but asked at every step, as samplers that read how training goes are."""

    reads = "stats"


MIXTURES = {
    "joint, own inputs": {"inputs": "own"},
    "joint, one input": {},
    "interleave, own inputs": {"inputs": "own", "sampler": "uniform"},
    "interleave, one input": {"sampler": "uniform"},
    "interleave, own inputs, live": {"inputs": "own", "sampler": Live()},
    "the same, 16 ahead": {"inputs": "own", "sampler": Live(), "ahead": 16},
}


def examples(kind, seed):
    """Data set of one task, and its batch size."""
    rng = np.random.default_rng(seed)
    if kind == "images":  # what is typical: some work for each example
        x = rng.integers(0, 255, (512, 32, 32, 3), dtype=np.uint8)
        data = tf.data.Dataset.from_tensor_slices((x, rng.integers(0, 10, 512))).shuffle(512)

        def prepare(image, label):
            image = tf.image.random_flip_left_right(tf.cast(image, tf.float32) / 255.0)
            return tf.image.random_crop(tf.pad(image, [[4, 4], [4, 4], [0, 0]]), (32, 32, 3)), label

        return data.map(prepare, num_parallel_calls=tf.data.AUTOTUNE), 64
    width, batch_size = {"rows": (784, 128), "tiny": (20, 32)}[kind]
    x = rng.normal(size=(2048, width)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, rng.integers(0, 10, 2048))).shuffle(2048), batch_size


def make_model(kind, inputs):
    """The smallest model that takes the data."""
    x = keras.Input((32, 32, 3) if kind == "images" else ({"rows": 784, "tiny": 20}[kind],))
    features = keras.layers.Flatten()(x)
    model = keras_mtl.MultiTaskModel(x, {task: keras.layers.Dense(1)(features) for task in TASKS})
    model = keras_mtl.own_inputs(model) if inputs == "own" else model
    model.compile("sgd", loss="mse")
    return model


@tf.function(reduce_retracing=True)
def drain(iterator, batches):
    for _ in tf.range(batches):
        iterator.get_next()


def iterators(kind, pipelines, batch_size, batches, name, in_fit):
    """Fresh iterators, and how many batches to draw from each."""
    if name is None:
        bare = [d.repeat().batch(batch_size).prefetch(tf.data.AUTOTUNE) for d in pipelines.values()]
        return [iter(pipeline) for pipeline in bare], batches // len(TASKS)
    options = MIXTURES[name]
    steps = batches if "sampler" in options else batches // len(TASKS)
    mixture = keras_mtl.data.mix(pipelines, batch_size=batch_size, stop=steps, seed=0, **options)
    if in_fit:
        mixture, _, _ = mixture.prepare_for(make_model(kind, options.get("inputs", "shared")))
    return [iter(mixture)], steps


def measure(kind, batches, rounds):
    """Seconds of wall and CPU time for so many batches of one task: case -> array of shape (rounds, 2)."""
    pipelines = {task: examples(kind, seed)[0] for seed, task in enumerate(TASKS)}
    batch_size = examples(kind, 0)[1]
    cases = [(None, False), *((name, in_fit) for name in MIXTURES for in_fit in (True, False))]
    times = {case: np.zeros((rounds, 2)) for case in cases}
    for turn in range(-1, rounds):  # the first one traces
        for case in cases:
            sources, count = iterators(kind, pipelines, batch_size, batches, *case)
            wall, cpu = time.perf_counter(), time.process_time()
            for source in sources:
                drain(source, tf.constant(count))
            if turn >= 0:
                times[case][turn] = time.perf_counter() - wall, time.process_time() - cpu
    return times


def main():
    args = options_of(__doc__, data=dict.fromkeys(("rows", "images", "tiny")), batches=600, rounds=7)
    for kind in args.data:
        times = measure(kind, args.batches, args.rounds)
        base, rows = times[None, False], []
        for (name, in_fit), measured in times.items():
            speed = np.median(base / measured, axis=0)
            ms = 1000 * np.median(measured[:, 0]) / args.batches
            drawn = "" if name is None else "in fit" if in_fit else "as data set"
            rows.append([name or "bare pipelines", drawn, f"{ms:.3f}", f"{speed[0]:.2f}", f"{speed[1]:.2f}"])
        header = ["", "drawn", "ms per batch (median)", "speed, wall", "speed, CPU"]
        print_table(f"{kind}: three tasks, batches of {examples(kind, 0)[1]}", header, rows)


if __name__ == "__main__":
    main()
