"""Only a step of the optimizer is a step: further forward passes and micro-batches move no state of their own."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_mtl
from keras_mtl import weighting as W

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 5)).astype("float32")
Y = {task: RNG.normal(size=(12, 1)).astype("float32") for task in "ab"}
PASSES = [
    ("equal", {}),
    ("upgrad", {}),
    ("upgrad", {"gramian_fraction": 0.5}),
    ("famo", {}),
    ("modo", {}),
    ("sdmgrad", {}),
    ("graddrop", {}),
    ("great", {}),
]


def build(trunk, rate=0.0, weighting="equal", accumulate=None, optimizer=keras.optimizers.SGD, **options):
    keras.utils.set_random_seed(0)
    heads = {task: layers.Dense(1) for task in "ab"}
    model = keras_mtl.hard_sharing(keras.Input((5,)), trunk, heads)
    model.compile(
        optimizer(rate, gradient_accumulation_steps=accumulate),
        loss="mse",
        weighting=weighting,
        **{"run_eagerly": True, **options},
    )
    return model


class Calls(layers.Layer):
    """Counts its training calls, by an integer and by a float."""

    def build(self, shape):
        self.whole = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int64", name="whole")
        self.parts = self.add_weight(shape=(), initializer="zeros", trainable=False, name="parts")

    def call(self, x, training=None):
        if training:
            self.whole.assign(self.whole + 1)
            self.parts.assign(self.parts + 1)
        return x


@pytest.mark.parametrize(("weighting", "options"), PASSES, ids=lambda v: str(v))
def test_layers_see_one_pass_a_step(weighting, options):
    statistics, calls = layers.BatchNormalization(momentum=0.9), Calls()
    model = build([layers.Dense(4), statistics, calls], weighting=weighting, **options)
    hidden = X.astype("float64") @ model.layers[1].weights[0].numpy()  # biases are 0, and the optimizer's rate is
    mean, variance = hidden.mean(0), hidden.var(0)
    for _ in range(2):
        model.train_on_batch(X, Y)
    np.testing.assert_allclose(statistics.moving_mean, (1 - 0.9**2) * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics.moving_variance, 0.9**2 + (1 - 0.9**2) * variance, rtol=1e-4)
    assert int(calls.whole) == 2 and float(calls.parts) == 2


@pytest.mark.parametrize("weighting", ["famo", "modo"])
def test_in_a_graph_too(weighting):
    statistics, calls = layers.BatchNormalization(momentum=0.9), Calls()
    model = build([layers.Dense(4), statistics, calls], weighting=weighting, run_eagerly=False, jit_compile=False)
    mean = (X.astype("float64") @ model.layers[1].weights[0].numpy()).mean(0)
    model.train_on_batch(X, Y)
    np.testing.assert_allclose(statistics.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
    assert int(calls.whole) == 1


class Draws(layers.Layer):
    """Adds a number that is drawn once a pass, and keeps what was drawn."""

    def __init__(self):
        super().__init__()
        self.generator, self.drawn = keras.random.SeedGenerator(0), []

    def call(self, x, training=None):
        if not training:
            return x
        noise = keras.random.normal((), seed=self.generator)
        self.drawn.append(float(noise))
        return x + noise


def test_passes_draw_independently_and_leave_the_seed_alone():
    def drawn(weighting, steps):
        layer = Draws()
        model = build([layers.Dense(4), layer], weighting=weighting)
        layer.drawn.clear()
        for _ in range(steps):
            model.train_on_batch(X, Y)
        return layer.drawn

    plain, parts = drawn("equal", 2), drawn("modo", 2)
    assert len(parts) == 8 and parts[0] == plain[0] and parts[4] == plain[1]
    assert len(set(parts[:4])) == 4  # the whole batch and three parts


def test_schedules_count_steps_of_the_optimizer():
    def steps(weighting, accumulate, batches=4):
        keras.utils.set_random_seed(0)
        heads = {task: layers.Dense(1) for task in "ab"}
        stages = [layers.Dense(3), layers.Dense(2)]
        model = keras_mtl.learned.learning_to_branch(keras.Input((5,)), stages, heads, warmup_steps=8)
        optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=accumulate)
        model.compile(optimizer, loss="mse", weighting=weighting, run_eagerly=True)
        for _ in range(batches):
            model.train_on_batch(X, Y)
        return {int(v.numpy()) for v in model.variables if v.path.endswith("choose/steps")}

    assert steps("equal", None) == steps("famo", None) == {4}
    assert steps("equal", 2) == {2}


def test_a_step_that_is_left_out_does_not_count():
    calls = Calls()
    model = build([layers.Dense(4), calls], on_nonfinite="skip_step")
    model.train_on_batch(X, Y)
    model.train_on_batch(X, {"a": Y["a"], "b": np.full_like(Y["b"], np.inf)})
    assert int(calls.whole) == 1 and float(calls.parts) == 1


# Gradient accumulation


@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
@pytest.mark.parametrize("lacking", [0, 1])
def test_a_task_keeps_what_it_has_accumulated(weighting, lacking):
    model = build([layers.Dense(3)], 1.0, weighting, accumulate=2)
    trunk, head = model.layers[1].weights[0].numpy().astype("float64"), model.task_variables("b")
    kernel = head[0].numpy().astype("float64")
    hidden = X[:6] @ trunk
    residual = hidden @ kernel - Y["b"][:6]
    expected = hidden.T @ (2 * residual / 6) / 2, (2 * residual / 6).sum(0) / 2  # biases are 0; half of the two batches
    batches = [(X[:6], {t: y[:6] for t, y in Y.items()}), (X[6:], {"a": Y["a"][6:]})]
    if lacking == 0:
        batches.reverse()
    before = [v.numpy() for v in head]
    model.train_on_batch(*batches[0])
    np.testing.assert_array_equal(head[0], before[0])
    model.train_on_batch(*batches[1])
    for variable, old, gradient in zip(head, before, expected, strict=True):
        np.testing.assert_allclose(old - variable.numpy(), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_task_that_no_micro_batch_has_stays_where_it_is(kind):
    def optimizer(rate, **options):
        if kind == "adamw":
            return keras.optimizers.AdamW(rate, weight_decay=0.1, **options)
        return keras.optimizers.SGD(rate, momentum=0.9, **options)

    model = build([layers.Dense(3)], 0.1, accumulate=2, optimizer=optimizer)
    for _ in range(2):
        model.train_on_batch(X, Y)
    own = {t: [v.numpy() for v in model.task_variables(t)] for t in "ab"}
    for _ in range(4):
        model.train_on_batch(X, {"a": Y["a"]})
    for variable, old in zip(model.task_variables("b"), own["b"], strict=True):
        np.testing.assert_array_equal(variable, old)
    assert not np.array_equal(model.task_variables("a")[0], own["a"][0])


def adam_on_logits(gains, rate=0.025):
    """FAMO's logits by NumPy: Adam down `z (d - sum(z d))`, without weight decay."""
    logits, momentum, velocity = np.zeros((3, 2))
    for step, gain in enumerate(gains, 1):
        shares = np.exp(logits) / np.exp(logits).sum()
        slope = shares * (gain - (shares * gain).sum())
        momentum, velocity = 0.9 * momentum + 0.1 * slope, 0.999 * velocity + 0.001 * slope**2
        logits = logits - rate * momentum / (1 - 0.9**step) / (np.sqrt(velocity / (1 - 0.999**step)) + 1e-8)
    return logits


def logs_of_losses(model, rows):
    out = {task: ops.convert_to_numpy(value) for task, value in model(X[rows]).items()}
    return np.log([np.mean((out[t].astype("float64") - Y[t][rows]) ** 2) + 1e-8 for t in "ab"])


@pytest.mark.parametrize(
    ("form", "eagerly", "chained"),
    [("same_batch", True, False), ("same_batch", False, False), ("next_batch", True, True)],
)
def test_famo_follows_the_optimizers_steps(form, eagerly, chained):
    famo = W.FAMO(form=form, weight_decay=0.0)
    weighting = W.Sequential([famo]) if chained else famo
    model = build([layers.Dense(3)], 0.05, weighting, accumulate=3, run_eagerly=eagerly, jit_compile=False)
    gains, last = [], None
    for step in range(4):
        for part in range(3):
            rows = slice(4 * part, 4 * part + 4)
            before = logs_of_losses(model, rows)
            logits = famo.logits.numpy()
            model.train_on_batch(X[rows], {t: y[rows] for t, y in Y.items()})
            if part < 2:
                np.testing.assert_array_equal(famo.logits, logits)
        if form == "same_batch":
            gains.append(before - logs_of_losses(model, rows))
        elif step:
            gains.append(last - before)
        last = before
    assert famo.steps.numpy().tolist() == [len(gains)] * 2
    np.testing.assert_allclose(famo.logits, adam_on_logits(gains), rtol=1e-3, atol=1e-6)
