"""Mixtures in `fit`: what is trained, logged, and told to samplers."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import data
from keras_mtl.data import mix
from tests.rows import by_default

TASKS = ("a", "b")


def arrays(count, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3)).astype("float32")
    return x, (x[:, :1] > 0).astype("float32")


def datasets(sizes=(40, 24)):
    return {
        task: tf.data.Dataset.from_tensor_slices(arrays(count, seed))
        for seed, (task, count) in enumerate(zip(TASKS, sizes, strict=True))
    }


def build(own=False, normalize=None, **options):
    keras.utils.set_random_seed(0)
    stages = [keras.layers.Dense(4, activation="relu", name="low")]
    if normalize is not None:
        stages.append(normalize)
    heads = {task: keras.layers.Dense(1, activation="sigmoid") for task in TASKS}
    model = keras_mtl.hard_sharing(keras.Input((3,)), stages, heads)
    model = keras_mtl.own_inputs(model) if own else model
    options.setdefault("metrics", {task: ["accuracy"] for task in TASKS})
    model.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy", **options)
    return model


def weights(model):
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


class ByHand:
    """Trains on what a mixture yields, batch by batch, in plain Keras models of one task."""

    def __init__(self, model):
        self.parts = {task: keras.Model(model.input, model.output[task]) for task in TASKS}

    def step(self, batches):
        """One step of gradient descent on the sum of the tasks' mean losses."""
        variables = list({id(v): v for part in self.parts.values() for v in part.trainable_variables}.values())
        with tf.GradientTape() as tape:
            loss = sum(
                tf.reduce_mean(keras.losses.binary_crossentropy(y, self.parts[task](x, training=True)))
                for task, (x, y) in batches.items()
            )
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            if gradient is not None:
                variable.assign_sub(0.1 * gradient)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("batch", ["joint", "interleave"])
def test_training_is_that_of_the_tasks_own_batches(own, batch):
    """Rows, empty batches and weights that fill gaps change no gradient."""
    sizes = {"a": 8, "b": 4}
    mixture = mix(datasets(), batch=batch, batch_size=sizes, stop=6, seed=1, inputs="own" if own else "shared")
    model = build(own)
    logs = model.fit(mixture, epochs=2, verbose=0).history

    reference = build()
    by_hand, streams = ByHand(reference), {t: iter(d.repeat().batch(sizes[t])) for t, d in datasets().items()}
    # `logs` say how often a task came, a mixture of the same seed in which order.
    again = mix(datasets(), batch=batch, batch_size=sizes, stop=6, seed=1, inputs="own")
    order = [[task for task in TASKS if y[task].shape[0]] for _ in range(2) for _, y in again]
    for tasks in order:
        by_hand.step({task: next(streams[task]) for task in tasks})
    np.testing.assert_allclose(weights(model), weights(reference), rtol=1e-4, atol=1e-5)
    if batch == "interleave":
        for task in TASKS:
            assert sum(logs[f"{task}_batches"]) == sum(tasks == [task] for tasks in order)


def test_counts_and_probabilities_are_logged():
    mixture = mix(datasets(), {"a": 0.8, "b": 0.2}, batch_size=4, stop=20, seed=0)
    logs = build().fit(mixture, epochs=3, verbose=0).history
    assert [a + b for a, b in zip(logs["a_batches"], logs["b_batches"], strict=True)] == [20, 20, 20]
    np.testing.assert_allclose(logs["a_probability"], 0.8)
    assert mixture.stats.counts.tolist() == [sum(logs["a_batches"]), sum(logs["b_batches"])]


class Recorder(data.Sampler):
    """Draws in turn and keeps what it could read at every draw."""

    def __init__(self):
        self.read = []

    def probabilities(self, step, stats):
        self.read.append((step, *stats.of_tasks("{task}_loss"), *stats.trained))
        return np.eye(2)[step % 2]


class LossByStep(keras.callbacks.Callback):
    """The loss of every step, from the running means of the epoch."""

    def on_train_begin(self, logs=None):
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        mean = self.model.compiled_tasks.loss_tracker
        totals = np.array(mean.totals)
        before = self.losses[-1][0] if batch else np.zeros(2)
        self.losses.append((totals, totals - before))


def test_samplers_read_the_result_of_the_last_step():
    """Nothing lies between a step and the draw of the next one."""
    sampler, steps = Recorder(), LossByStep()
    mixture = mix(datasets(), sampler, batch_size=4, stop=6)
    model = build()
    model.fit(mixture, epochs=2, callbacks=[steps], verbose=0)
    assert [read[0] for read in sampler.read] == list(range(12))
    trained = np.array([read[3:] for read in sampler.read])
    np.testing.assert_array_equal(trained.sum(axis=1), np.arange(12))  # at step t, t results are in
    for step, (_, of_step) in enumerate(steps.losses[:-1]):
        task = step % 2
        assert sampler.read[step + 1][1 + task] == pytest.approx(of_step[task] / 4, rel=1e-4)


def test_draws_ahead_lag_behind_by_as_many_steps():
    sampler = Recorder()
    mixture = mix(datasets(), sampler, batch_size=4, stop=8, ahead=4)
    logs = build().fit(mixture, epochs=2, verbose=0).history
    assert [sum(read[3:]) for read in sampler.read] == [0] * 4 + [4] * 4 + [8] * 4 + [12] * 4
    assert logs["a_batches"] == logs["b_batches"] == [4, 4]


def test_draws_ahead_of_one_execution_are_no_later():
    read = []
    for ahead in (1, 3):
        sampler = Recorder()
        mixture = mix(datasets(), sampler, batch_size=4, stop=6, ahead=ahead)
        build(steps_per_execution=3).fit(mixture, epochs=2, verbose=0)
        read.append(np.array(sampler.read))
    np.testing.assert_array_equal(*read)


def test_results_lag_behind_within_one_execution():
    sampler = Recorder()
    mixture = mix(datasets(), sampler, batch_size=4, stop=6)
    build(steps_per_execution=3).fit(mixture, epochs=1, verbose=0)
    assert [sum(read[3:]) for read in sampler.read] == [0, 0, 0, 2, 2, 2]  # both tasks reported, once each


LIVE = [
    data.A5C({"a": 0.9, "b": 0.9}, window=2),
    data.UA4C({"a": 0.9, "b": 0.9}),
    data.EA4C({"a": 0.9, "b": 0.9}, window=2, horizon=5),
    "dynamic_task_prioritization",
    "loss_ratio",
    data.A5C({"a": 0.9, "b": 0.9}, monitor="val_{task}_accuracy"),
]


@pytest.mark.parametrize(
    "sampler",
    # One with a state of its own stands for those that read a metric, one for those that read losses by their name, and
    # one reads validation logs. What each of them makes of what it reads is in `test_samplers.py`.
    by_default([LIVE[1], LIVE[4], LIVE[5]], LIVE),
    ids=lambda sampler: sampler if isinstance(sampler, str) else f"{type(sampler).__name__} {sampler.monitor}",
)
def test_live_samplers_move_in_fit(sampler):
    mixture = mix(datasets(), sampler, batch_size=4, stop=12, inputs="own", seed=0)
    tested = mix(datasets(), batch_size=16, stop="once", inputs="own")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Task '.' was never drawn")
        logs = build(own=True).fit(mixture, validation_data=tested, epochs=3, verbose=0).history
    probabilities = np.array([logs["a_probability"], logs["b_probability"]])
    np.testing.assert_allclose(probabilities.sum(axis=0), 1.0)
    assert np.ptp(probabilities[0]) > 0
    assert mixture.stats.trained.sum() == 36


def test_same_seed_same_training():
    def run():
        mixture = mix(datasets(), data.UA4C({"a": 0.9, "b": 0.9}), batch_size=4, stop=6, inputs="own", seed=3)
        model = build(own=True, run_eagerly=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Task '.' was never drawn")
            model.fit(mixture, epochs=2, verbose=0)
        return weights(model)

    np.testing.assert_array_equal(run(), run())


def test_validation_on_every_example_once_is_the_tasks_own_mean():
    model = build(own=True)
    found = model.evaluate(mix(datasets(), batch_size=7, stop="once", inputs="own"), verbose=0, return_dict=True)
    for task, dataset in datasets().items():
        x, y = next(iter(dataset.batch(100)))
        predicted = model.task_model(task)({f"{task}_input": x})
        expected = tf.reduce_mean(keras.losses.binary_crossentropy(y, predicted))
        assert found[f"{task}_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_epochs_of_a_number_of_steps_that_executions_do_not_divide():
    sampler = Recorder()
    mixture = mix(datasets(), sampler, batch_size=4, stop=7)
    logs = build(steps_per_execution=3).fit(mixture, epochs=2, verbose=0).history
    assert len(sampler.read) == 14 and logs["a_batches"] == [4, 3]


def test_task_that_is_never_drawn_is_warned_of_once():
    with pytest.warns(UserWarning, match="Task 'b' has a probability of 0.01"):
        mixture = mix(datasets(), {"a": 0.99, "b": 0.01}, batch_size=4, stop=3, seed=0)
    with pytest.warns(UserWarning, match="Task 'b'") as caught:
        build().fit(mixture, epochs=1, verbose=0)
    messages = [str(warning.message) for warning in caught if "Task 'b'" in str(warning.message)]
    assert len(messages) == 1
    assert "was never drawn in epoch 1, at a mean probability of 0.01 in 3 steps" in messages[0]


def test_errors_at_the_start_of_fit_name_the_task():
    named = {task: dataset.map(lambda x, y, t=task: ({f"{t}_input": x}, y)) for task, dataset in datasets().items()}
    wrong = {**named, "b": named["b"].map(lambda x, y: ({"text": x["b_input"]}, y))}
    model = build(own=True)
    with pytest.raises(ValueError, match=r"task 'b' should have the inputs of 'b', .'b_input'.. Received: .'text'."):
        model.fit(mix(wrong, batch_size=4), verbose=0)
    with pytest.raises(ValueError, match="task 'a' should give its inputs by name"):
        model.fit(mix(datasets(), batch_size=4), verbose=0)
    with pytest.raises(ValueError, match=r"task 'c' should be of the model's tasks, .* Received: 'c'"):
        model.fit(mix({"c": datasets()["a"]}, batch_size=4, inputs="own"), verbose=0)
    with pytest.raises(ValueError, match=r"`steps_per_epoch` should be left out: .* has 10 steps"):
        model.fit(mix(datasets(), batch_size=4, inputs="own"), steps_per_epoch=3, verbose=0)
    silent = build(own=True, metrics=None)
    mixture = mix(datasets(), data.A5C({"a": 1.0, "b": 1.0}), batch_size=4, stop=3, inputs="own")
    with pytest.raises(ValueError, match=r"`monitor` of A5C should name a log .* Received: 'a_accuracy'"):
        silent.fit(mixture, verbose=0)


def test_plain_normalization_of_empty_batches_is_refused():
    mixture = mix(datasets(), "round_robin", batch_size=4, inputs="own", stop=4)
    plain = build(own=True, normalize=keras.layers.BatchNormalization(), run_eagerly=True)
    with pytest.raises(ValueError, match="would normalize batches without examples"):
        plain.fit(mixture, verbose=0)
    plain.fit(mix(datasets(), batch_size=4, inputs="own"), verbose=0)  # joint batches are never empty
    safe = build(own=True, normalize=keras_mtl.layers.SafeBatchNormalization())
    safe.fit(mixture, verbose=0)
    assert np.isfinite(weights(safe)).all()


def test_convolutions_train_with_rows_that_weigh_nothing():
    """TensorFlow gives an empty batch behind a convolution a wrong shape, on CPU and in a graph."""

    def pictures(seed):
        x = np.random.default_rng(seed).normal(size=(16, 6, 6, 2)).astype("float32")
        return tf.data.Dataset.from_tensor_slices((x, x[:, 0, 0, :1]))

    x = keras.Input((6, 6, 2))
    features = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, activation="relu")(x))
    model = keras_mtl.own_inputs(keras_mtl.MultiTaskModel(x, {task: keras.layers.Dense(1)(features) for task in TASKS}))
    model.compile("sgd", loss="mse")
    pair = {"a": pictures(0), "b": pictures(1)}
    options = {"batch_size": 4, "inputs": "own"}
    with pytest.raises(ValueError, match="`absent_rows` of the mixture should be 1, since layer 'conv2d'"):
        model.fit(mix(pair, "round_robin", stop=4, **options), verbose=0)
    tested = mix(pair, stop="once", absent_rows=1, **options)
    before = model.evaluate(tested, verbose=0)
    model.fit(mix(pair, "round_robin", stop=8, absent_rows=1, **options), epochs=3, verbose=0)
    assert model.evaluate(tested, verbose=0) < before


def test_plain_keras_model_trains_on_joint_batches():
    model = build(own=True)
    plain = keras.Model(model.input, model.output)
    plain.compile("sgd", loss=dict.fromkeys(TASKS, "binary_crossentropy"))
    mixture = mix(datasets(), batch_size=4, inputs="own")
    losses = plain.fit(mixture, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


def test_callback_of_a_mixture_that_went_through_map():
    mixture = mix(datasets(), "uniform", batch_size=4, stop=10)
    logs = build().fit(mixture.map(lambda *batch: batch), callbacks=[mixture.callback], verbose=0).history
    assert logs["a_batches"][0] + logs["b_batches"][0] == 10


NEED_A_ROW = {
    "pooling": ((6, 3), lambda: keras.layers.MaxPooling1D(2)),
    "pooling of images": ((6, 6, 3), lambda: keras.layers.MaxPooling2D(2)),
    "adaptive pooling": ((6, 3), lambda: keras.layers.AdaptiveMaxPooling1D(2)),
    "pooling of each picture": ((2, 6, 6, 3), lambda: keras.layers.TimeDistributed(keras.layers.MaxPooling2D(2))),
    "convolutional recurrence": ((3, 6, 2), lambda: keras.layers.ConvLSTM1D(2, 3)),
    "spectra": ((64, 1), lambda: keras.layers.STFTSpectrogram(frame_length=16, frame_step=8)),
}


@pytest.mark.parametrize("kind", NEED_A_ROW)
def test_layers_that_need_a_row_ask_for_one(kind):
    """An empty batch ends the process in a max pooling's gradient, and fails in the others."""
    shape, make = NEED_A_ROW[kind]
    stages = [[make(), keras.layers.Flatten()]]
    model = keras_mtl.own_inputs(
        keras_mtl.hard_sharing(keras.Input(shape), stages, {task: keras.layers.Dense(1) for task in TASKS})
    )
    model.compile("sgd", loss="mse", run_eagerly=True)
    x = np.ones((4, *shape), "float32")
    data = {task: tf.data.Dataset.from_tensor_slices((x, np.ones((4, 1), "float32"))) for task in TASKS}
    options = {"batch_size": 2, "inputs": "own", "stop": 2}
    with pytest.raises(ValueError, match="`absent_rows` of the mixture should be 1, since layer"):
        model.fit(mix(data, "round_robin", **options), verbose=0)
    history = model.fit(mix(data, "round_robin", absent_rows=1, **options), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
