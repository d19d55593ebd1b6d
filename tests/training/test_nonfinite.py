"""NaN and infinity in one task's loss or gradient: raised, or left out without a trace."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl


def slow(*values):
    return [pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.slow) for v in values]


# One of each kind: learned, Gramian with a state, Jacobian in parts; fixed, with a state that follows losses, Gramian.
WEIGHTINGS = ["uncertainty", "gradnorm", "modo", *slow("equal", "famo", "mgda")]
RNG = np.random.default_rng(0)
BATCH = 8
X = RNG.normal(size=(3 * BATCH, 4)).astype("float32")
Y = {task: RNG.normal(size=(3 * BATCH, 1)).astype("float32") for task in "abc"}
BAD = {**Y, "b": np.where(np.arange(3 * BATCH)[:, None] == BATCH + 2, np.nan, Y["b"]).astype("float32")}
FIRST, SECOND, THIRD = (slice(i * BATCH, (i + 1) * BATCH) for i in range(3))


def make_model(weighting="equal", *, head=None, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((4,)),
        [[layers.Dense(5, activation="tanh", kernel_regularizer="l2"), layers.BatchNormalization()]],
        {task: (task == "b" and head) or layers.Dense(1) for task in "abc"},
    )
    model.compile(
        optimizer or keras.optimizers.SGD(0.01, momentum=0.9),
        loss="mse",
        metrics={task: ["mae"] for task in "abc"},
        weighting=weighting,
        **{"run_eagerly": True, **options},
    )
    return model


def fit(model, y=BAD, parts=(FIRST, SECOND, THIRD), **options):
    x = np.concatenate([X[part] for part in parts])
    y = {task: np.concatenate([labels[part] for part in parts]) for task, labels in y.items()}
    return model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, **options).history


def state(model):
    # What models draw does not say whether they learned the same.
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables) if "seed" not in v.path]


def assert_same(model, expected, **tolerance):
    for v, w in zip(state(model), state(expected), strict=True):
        np.testing.assert_allclose(v, w, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_raise_names_the_task_and_leaves_the_model_as_it_was(weighting):
    model, expected = make_model(weighting), make_model(weighting)
    fit(expected, Y, [FIRST])
    with pytest.raises(FloatingPointError, match=r"Received: NaN or infinity in the loss of \['b'\]"):
        fit(model)
    assert_same(model, expected)
    fit(model, Y, [THIRD])  # goes on where it was
    fit(expected, Y, [THIRD])
    assert_same(model, expected)


def test_validation_does_not_start_after_such_a_step():
    """It would reset what was counted."""
    model = make_model()
    started = []
    look = keras.callbacks.Callback()
    look.on_test_begin = lambda logs=None: started.append(True)
    with pytest.raises(FloatingPointError, match=r"the loss of \['b'\]"):
        fit(model, validation_data=(X[FIRST], {task: y[FIRST] for task, y in Y.items()}), callbacks=[look])
    assert not started
    fit(model, Y, validation_data=(X[FIRST], {task: y[FIRST] for task, y in Y.items()}), callbacks=[look])
    assert started


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_skip_step_is_as_if_the_batch_had_not_come(weighting):
    model, expected = (make_model(weighting, on_nonfinite="skip_step") for _ in range(2))
    with pytest.warns(UserWarning, match=r"'b' was NaN or infinite in epoch 1\. Steps left out: 1"):
        logs = fit(model)
    expected_logs = fit(expected, Y, [FIRST, THIRD])
    assert_same(model, expected)
    assert (logs["a_nonfinite"], logs["b_nonfinite"], logs["skipped_steps"]) == ([0.0], [1.0], [1.0])
    assert (expected_logs["b_nonfinite"], expected_logs["skipped_steps"]) == ([0.0], [0.0])
    assert all(np.isfinite(values).all() for values in logs.values())
    if weighting != "modo":  # two of the three parts of its batch are finite, and count in the mean
        np.testing.assert_allclose(
            [logs[n] for n in ("b_loss", "b_mae")], [expected_logs[n] for n in ("b_loss", "b_mae")], 1e-5
        )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_skip_task_is_as_if_its_labels_were_missing(weighting):
    missing = {**Y, "b": BAD["b"].copy()}
    missing["b"][SECOND] = np.nan
    model = make_model(weighting, on_nonfinite="skip_task")
    expected = make_model(weighting, missing="nan")
    with pytest.warns(UserWarning, match=r"'b' was NaN or infinite in epoch 1\. Steps left out for this task: 1"):
        logs = fit(model)
    expected_logs = fit(expected, missing)
    assert (logs["a_nonfinite"], logs["b_nonfinite"], logs["skipped_steps"]) == ([0.0], [1.0], [0.0])
    for name in expected_logs:
        np.testing.assert_allclose(logs[name], expected_logs[name], rtol=1e-4, atol=1e-6, err_msg=name)
    if weighting != "famo":  # which compares losses after the step too: of the whole batch here, of labels there
        assert_same(model, expected)


@pytest.mark.parametrize("weighting", ["geometric", *slow("uncertainty", "imtl_l", "nash")])
def test_skip_task_takes_the_same_steps_where_all_is_finite(weighting):
    model, expected = make_model(weighting, on_nonfinite="skip_task"), make_model(weighting)
    fit(model, Y)
    fit(expected, Y)
    assert_same(model, expected)


class Exponential(layers.Layer):
    """Overflows in the head itself, whose gradient is NaN whatever its loss weighs."""

    def call(self, x):
        return keras.ops.exp(200.0 * x[:, :1] + 200.0)


@pytest.mark.parametrize("weighting", ["equal", "uncertainty", "mgda"])
def test_skip_task_keeps_a_head_that_overflows_from_the_trunk(weighting):
    model, expected = (make_model(weighting, head=Exponential(), on_nonfinite="skip_task") for _ in range(2))
    logs = model.train_on_batch(X[FIRST], {task: y[FIRST] for task, y in Y.items()}, return_dict=True)
    expected.train_on_batch(X[FIRST], {task: y[FIRST] for task, y in Y.items() if task != "b"})
    assert logs["b_nonfinite"] == 1 and logs["skipped_steps"] == 0
    assert_same(model, expected)
    assert (
        np.abs(model.shared_variables[0].numpy() - make_model(head=Exponential()).shared_variables[0].numpy()).max()
        > 1e-3
    )


class Root(layers.Layer):
    """Finite, with an infinite slope at 0."""

    def call(self, x):
        return keras.ops.sqrt(0.0 * x[:, :1])


def test_gradients_that_are_not_finite_though_the_losses_are():
    before = make_model("mgda", head=Root()).get_weights()
    for weighting in ("equal", "mgda"):
        model = make_model(weighting, head=Root())
        with pytest.raises(FloatingPointError, match="in the gradients or the weighting's state, from finite losses"):
            fit(model, Y)
        for v, w in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(v, w)
    skipped = make_model("mgda", head=Root(), on_nonfinite="skip_step")
    with pytest.warns(UserWarning, match="Gradients, or the weighting's state, were NaN or infinite in epoch 1"):
        assert fit(skipped, Y)["skipped_steps"] == [3.0]
    for v, w in zip(skipped.get_weights(), before, strict=True):
        np.testing.assert_array_equal(v, w)
    alone = make_model("mgda", head=Root(), on_nonfinite="skip_task")
    with pytest.warns(UserWarning, match="loss or gradient of task 'b'"):
        logs = fit(alone, Y)
    assert (logs["b_nonfinite"], logs["skipped_steps"], logs["b_weight"]) == ([3.0], [0.0], [0.0])
    assert all(np.isfinite(v).all() for v in state(alone))


def test_skip_task_leaves_the_step_out_where_no_task_remains():
    model, expected = (make_model("uncertainty", on_nonfinite="skip_task") for _ in range(2))
    x = X.copy()
    x[BATCH + 1] = np.inf  # BatchNormalization would keep that for good
    with pytest.warns(UserWarning, match="NaN or infinite"):
        logs = model.fit(x, Y, batch_size=BATCH, shuffle=False, verbose=0).history
    fit(expected, Y, [FIRST, THIRD])
    assert logs["skipped_steps"] == [1.0] and np.isfinite(logs["loss"]).all()
    assert_same(model, expected)


GRAPHS = {"graph": {}, "steps": {"steps_per_execution": 3}, "xla": {"jit_compile": True}}


@pytest.mark.parametrize(
    ("graph", "on_nonfinite", "weighting"),
    [
        ("steps", "raise", "uncertainty"),
        ("graph", "skip_task", "mgda"),
        *slow(
            ("graph", "raise", "mgda"),
            ("graph", "skip_step", "uncertainty"),
            ("graph", "skip_task", "uncertainty"),
            ("steps", "skip_step", "mgda"),
            ("xla", "raise", "uncertainty"),
            ("xla", "skip_step", "mgda"),
            ("xla", "skip_task", "uncertainty"),
        ),
    ],
)
def test_in_the_graph_as_eagerly(graph, on_nonfinite, weighting):
    eager = make_model(weighting, on_nonfinite=on_nonfinite)
    model = make_model(
        weighting, on_nonfinite=on_nonfinite, run_eagerly=False, **{"jit_compile": False, **GRAPHS[graph]}
    )
    for one in (eager, model):
        if on_nonfinite == "raise":
            with pytest.raises(FloatingPointError, match="'b'"):
                fit(one)
        else:
            with pytest.warns(UserWarning, match="'b'"):
                fit(one)
    assert_same(model, eager)


@pytest.mark.parametrize("on_nonfinite", ["skip_task", *slow("raise", "skip_step")])
def test_replicas_agree(on_nonfinite, mirrored_strategy):
    """The bad label stands in the first half of the batch: the other replica must leave the step out too."""
    models = []
    for scope in (tf.distribute.get_strategy().scope, mirrored_strategy.scope):
        with scope():
            # Without BatchNormalization, whose statistics are those of each replica.
            model = keras_mtl.hard_sharing(
                keras.Input((4,)), [layers.Dense(5, activation="tanh")], {task: layers.Dense(1) for task in "abc"}
            )
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
            how = {"weighting": "mgda", "on_nonfinite": on_nonfinite, "run_eagerly": not models}
            model.compile(optimizer, "mse", **how)
        models.append(model)
    models[1].set_weights(models[0].get_weights())
    data = tf.data.Dataset.from_tensor_slices((X, BAD)).batch(BATCH)
    for model in models:
        if on_nonfinite == "raise":
            with pytest.raises(FloatingPointError, match=r"\['b'\]"):
                model.fit(data, verbose=0)
        else:
            with pytest.warns(UserWarning, match="'b'"):
                logs = model.fit(data, verbose=0).history
            assert logs["b_nonfinite"] == [1.0]
            assert logs["skipped_steps"] == [float(on_nonfinite == "skip_step")]
    assert_same(*models)


def test_terminate_on_nan_ends_training_without_an_error():
    model, expected = make_model(), make_model()
    fit(expected, Y, [FIRST])
    with pytest.warns(UserWarning, match="'b' was NaN or infinite"):
        logs = fit(model, callbacks=[keras.callbacks.TerminateOnNaN()], epochs=3)
    assert len(logs["loss"]) == 1
    assert_same(model, expected)


def test_the_option_is_checked_and_saved(tmp_path):
    with pytest.raises(ValueError, match=r"`on_nonfinite` should be one of .* Received: on_nonfinite='skip'"):
        make_model(on_nonfinite="skip")
    assert make_model().compiled_tasks.on_nonfinite == "raise"
    model = make_model(on_nonfinite="skip_task")
    fit(model, Y)
    model.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").compiled_tasks.on_nonfinite == "skip_task"
    assert not any("nonfinite" in name for name in fit(make_model(), Y))


# Loss scaling


def scaled(scale, growth=10**9):
    return keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05), initial_scale=scale, dynamic_growth_steps=growth
    )


@pytest.mark.parametrize("weighting", ["uncertainty", "nash", *slow("geometric", "mgda", "gradnorm", "modo", "moco")])
def test_loss_scaling_cancels_in_the_gradient_maths(weighting):
    """Powers of two: scaling and unscaling round nothing."""
    plain = make_model(weighting, optimizer=keras.optimizers.SGD(0.05))
    expected = fit(plain, Y)
    for scale in (2.0**15, 2.0**70):
        model = make_model(weighting, optimizer=scaled(scale))
        logs = fit(model, Y)
        for name in expected:
            np.testing.assert_allclose(logs[name], expected[name], rtol=2e-4, atol=1e-6, err_msg=f"{name} {scale}")
        for v, w in zip(model.variables, plain.variables, strict=True):
            if "seed" not in v.path:
                np.testing.assert_allclose(v, w, rtol=2e-4, atol=1e-5, err_msg=v.path)


@pytest.mark.parametrize("weighting", ["famo", "nash", *slow("gradnorm", "moco", "uncertainty")])
def test_an_overflow_step_leaves_weighting_state_alone(weighting):
    """Losses are finite, scaled gradients are not: the optimizer skips the step, and lowers its scale."""
    model, untouched = make_model(weighting, optimizer=scaled(2.0**127)), make_model(weighting)
    fit(model, Y, [FIRST])
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**126
    assert int(model.optimizer.iterations) == 0
    for v, w in zip(model.weighting.variables, untouched.weighting.variables, strict=True):
        np.testing.assert_array_equal(v, w, err_msg=v.path)
    for v, w in zip(model.trainable_variables, untouched.trainable_variables, strict=True):
        np.testing.assert_array_equal(v, w, err_msg=v.path)


def test_overflow_is_no_reason_to_raise_but_a_loss_is():
    model = make_model("mgda", optimizer=scaled(2.0**127))
    fit(model, Y)
    with pytest.raises(FloatingPointError, match="'b'"):
        fit(model)
