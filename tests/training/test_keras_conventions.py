"""What people know from `keras.Model` holds here: lists, arguments by position, callbacks, overrides, containers."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_mtl

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
Y = {"a": 2 * X[:, :1], "b": X[:, 1:2] - X[:, 2:3]}
MSE = {"a": "mse", "b": "mse"}


def net(kind=keras_mtl.MultiTaskModel, names=("a", "b"), units=1):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = layers.Dense(5, activation="tanh", name="hidden")(inputs)
    return kind(inputs, {name: layers.Dense(units, name=name.lstrip("_"))(hidden) for name in names})


def compiled(model=None, optimizer=None, **options):
    model = net() if model is None else model
    options = {"loss": "mse", "run_eagerly": True, **options}
    model.compile(keras.optimizers.SGD(0.05) if optimizer is None else optimizer, **options)
    return model


def squares(model, x=X, y=Y):
    predicted = model.predict_on_batch(x)
    return {task: float(np.mean((predicted[task] - labels) ** 2)) for task, labels in y.items()}


def close(value):
    return pytest.approx(value, rel=1e-4)


# Lists.


def test_lists_are_those_of_keras():
    metrics = {"a": ["mae"], "b": ["mae"]}
    ours, plain = compiled(metrics=metrics), net(keras.Model)
    plain.compile(keras.optimizers.SGD(0.05), loss=MSE, metrics=metrics, run_eagerly=True)
    for call in ("evaluate", "test_on_batch", "train_on_batch"):
        options = {"verbose": 0} if call == "evaluate" else {}
        found, expected = (getattr(model, call)(X, Y, **options) for model in (ours, plain))
        assert found == close(expected), call
        assert len(ours.metrics_names) == len(found)
    assert ours.metrics_names == ["loss", "a_loss", "b_loss", "a_mae", "b_mae"]
    logs = ours.evaluate(X, Y, verbose=0, return_dict=True)
    assert dict(zip(ours.metrics_names, ours.evaluate(X, Y, verbose=0), strict=True)) == close(logs)


def test_lists_follow_the_order_of_the_tasks_whatever_is_logged_besides():
    class Pair(keras.metrics.MeanAbsoluteError):
        def result(self):
            return {"low": super().result() - 1, "high": super().result() + 1}

    model = compiled(net(names=("z", "a")), weighting="mgda", diagnostics=True, metrics={"a": [Pair(name="pair")]})
    y = {"z": Y["a"], "a": Y["b"]}
    logs = model.train_on_batch(X, y, return_dict=True)
    assert {"z_weight", "a_grad_norm", "grad_cosine"} <= set(logs)
    names = model.metrics_names
    assert names == ["loss", "z_loss", "a_loss", "a_pair"]
    logs = model.evaluate(X, y, verbose=0, return_dict=True)
    # Metrics of several numbers come last, by name, as in Keras.
    assert model.evaluate(X, y, verbose=0) == [logs[n] for n in ("loss", "z_loss", "a_loss", "high", "low")]
    assert len({metric.name for metric in model.metrics}) == len(model.metrics)


def test_a_metric_of_the_users_own_stays_in_the_lists():
    class Counted(keras_mtl.MultiTaskModel):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.count = keras.metrics.Sum(name="count")

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            self.count.update_state(ops.ones_like(y_pred["a"]))
            return {**logs, "count": self.count.result()}

    for weighting in ("equal", "mgda", "graddrop", "great", keras_mtl.weighting.MGDA(every=2)):
        model = compiled(net(Counted), weighting=weighting)
        assert model.fit(X, Y, batch_size=8, verbose=0).history["count"] == [24.0]
        assert model.metrics_names == ["loss", "a_loss", "b_loss", "count"]
        assert model.evaluate(X, Y, verbose=0)[-1] == 24.0
    model = net(Counted)
    for weighting in ("modo", "sdmgrad"):
        with pytest.raises(ValueError, match="`weighting` should see each batch as a whole with Counted"):
            compiled(model, weighting=weighting)


@pytest.mark.parametrize("tells", [True, False])
def test_a_step_of_the_users_own(tells):
    class Stepping(keras_mtl.MultiTaskModel):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x, y, y_pred)
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return self.compute_metrics(x, y, y_pred) if tells else {"loss": loss}

        def test_step(self, data):
            x, y = data
            y_pred = self(x, training=False)
            return self.compute_metrics(x, y, y_pred) if tells else {"loss": self.compute_loss(x, y, y_pred)}

    model, usual = compiled(net(Stepping)), compiled()
    model.set_weights(usual.get_weights())
    said, expected = (m.fit(X, Y, batch_size=24, epochs=2, verbose=0).history for m in (model, usual))
    assert said["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert set(said) == ({*expected} if tells else {"loss"})
    said, expected = (m.evaluate(X, Y, batch_size=24, return_dict=True, verbose=0) for m in (model, usual))
    assert said == {name: pytest.approx(expected[name], rel=1e-5) for name in said}
    for one, other in zip(model.get_weights(), usual.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


# Calls.


def test_arguments_by_position():
    model = compiled()
    seen = []
    history = model.fit(X, Y, 8, 2, 0, [keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(e))])
    assert seen == [0, 1] and history.epoch == [0, 1]
    weights = np.arange(24.0)
    weighted = model.evaluate(X, Y, 24, 0, weights)
    assert weighted == close(model.evaluate(X, Y, batch_size=24, verbose=0, sample_weight=weights))
    assert weighted != close(model.evaluate(X, Y, 24, 0))
    assert model.test_on_batch(X, Y, weights) == close(weighted)
    assert set(model.train_on_batch(X, Y, None, None, True)) >= {"loss", "a_loss", "a_weight"}


def test_a_list_of_callbacks_as_keras_makes_it_may_come_again():
    model = compiled(weighting="dwa")
    callbacks = keras.callbacks.CallbackList([], model=model, add_history=True)
    given = list(callbacks.callbacks)
    for _ in range(2):
        history = model.fit(X, Y, callbacks=callbacks, verbose=0)
    assert callbacks.callbacks == given  # the list stays the user's
    assert len(history.history["loss"]) == 2
    assert model.weighting.epochs.numpy().tolist() == [2.0, 2.0]  # an epoch ended once each time


def test_before_compile():
    model = net()
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"You must call `compile\(\)` before"):
            call(X, Y)
    for call in (model.task_weights, lambda: model.weighting, lambda: model.set_task_weights({"a": 1})):
        with pytest.raises(ValueError, match=r"You must call `compile\(\)` before using model 'multi_task_model"):
            call()
    assert model.metrics == [] and model.metrics_names == []


def test_other_backends_than_tensorflow_and_jax_do_not_train(monkeypatch, tmp_path):
    model = compiled()
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    trains = "keras_mtl trains on the backends TensorFlow and JAX.*Received: the backend 'torch'"
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(RuntimeError, match=trains):
            call(X, Y)
    with pytest.raises(RuntimeError, match=trains):
        net().compile("sgd", loss=MSE)
    with pytest.warns(UserWarning, match="is not compiled, since keras_mtl trains on the backends TensorFlow and JAX"):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(X)["a"], model.predict_on_batch(X)["a"], atol=1e-6)
    assert loaded.get_compile_config() == {} and loaded.metrics_names == []


def test_lengths_that_differ_are_named():
    model = compiled()
    for y, weights, says in (
        ({**Y, "a": Y["a"][:23]}, None, "`y` of task 'a' should have as many examples as `x`, 24. Received: 23"),
        (Y, {"a": np.ones(23)}, "`sample_weight` of task 'a' should have as many examples as `x`, 24. Received: 23"),
        (Y, np.ones(25), "`sample_weight` should have as many examples as `x`, 24. Received: 25"),
    ):
        for call in (model.fit, model.evaluate, model.train_on_batch):
            with pytest.raises(ValueError, match=says):
                call(X, y, sample_weight=weights)
        with pytest.raises(ValueError, match=says):
            model.fit(X, Y, validation_data=(X, y, weights), verbose=0)


def test_nothing_to_train():
    model = net()
    model.get_layer("hidden").trainable = model.get_layer("a").trainable = model.get_layer("b").trainable = False
    expected = squares(compiled(model))
    with pytest.warns(UserWarning, match="The model does not have any trainable weights"):
        logs = model.fit(X, Y, batch_size=24, verbose=0).history
    assert logs["a_loss"] == close([expected["a"]])
    assert squares(model) == expected


def test_class_weight_has_its_place():
    model = compiled()
    with pytest.raises(ValueError, match=r"given to `compile`.*`compile\(class_weight=\{'b': \{0: 2.0\}\}\)`"):
        model.fit(X, Y, class_weight={"b": {0: 2.0}})
    with pytest.raises(ValueError, match=r"given to `compile`.*`compile\(class_weight=\{'a': "):
        model.train_on_batch(X, Y, class_weight={0: 2.0})
    with pytest.raises(ValueError, match=r"of task 'b' should be a dict.*Received: 'balanced'.*np.bincount"):
        compiled(class_weight={"b": "balanced"})


# What `compile` takes.


def test_lists_in_the_order_of_the_tasks():
    model = compiled(net(names=("b", "a")), loss=["mse", "mae"], loss_weights=[3, np.int64(2)], metrics=[["mae"], None])
    assert model.compiled_tasks.task_losses.losses["a"].name == "mean_absolute_error"
    assert model.task_weights() == {"b": 3.0, "a": 2.0}
    assert model.metrics_names == ["loss", "b_loss", "a_loss", "b_mae"]
    assert compiled(metrics=["mae", "mse"]).metrics_names[3:] == ["a_mae", "b_mse"]  # one each, as in Keras
    assert compiled(metrics=["mae"]).metrics_names[3:] == ["a_mae", "b_mae"]
    assert compiled(loss=["mse", None], loss_weights=[2.0, 5.0]).task_weights() == {"a": 2.0}
    for options in ({"loss": ["mse"] * 3}, {"loss_weights": [1.0]}, {"metrics": ["mae", "mse", "mape"]}):
        (argument,) = options
        with pytest.raises(ValueError, match=rf"`{argument}` should be .* a list with an entry for each task of \['a'"):
            compiled(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss_weights": {"a": None}}, "`loss_weights` should be finite.*Received: None for task 'a'"),
        ({"loss_weights": {"a": "2"}}, "`loss_weights` should be finite.*Received: '2' for task 'a'"),
        ({"loss_weights": {"a": True}}, "`loss_weights` should be finite.*Received: True for task 'a'"),
        ({"loss_weights": {"b": keras.Variable(-1.0)}}, "`loss_weights` should be finite.*for task 'b'"),
        ({"loss_weights": 2.0}, r"`loss_weights` should be a dict keyed by task.*Received: loss_weights=2.0"),
        ({"delta_m": 3}, "`delta_m` should be a `keras_mtl.metrics.DeltaM`.*Received: delta_m=3"),
        ({"sample_space": "a"}, "`sample_space` should be a dict from task to .*Received: sample_space='a'"),
        ({"sample_space": {"a": "a"}}, "`sample_space` of task 'a' should name another task.*Received: 'a'"),
        ({"class_weight": 2}, "`class_weight` should be a dict from task.*Received: class_weight=2"),
        ({"class_weight": {"b": {0: -1.0}}}, r"`class_weight\['b'\]\[0\]` should be a finite number, at least 0"),
        ({"class_weight": {"b": {"x": 1.0}}}, "The classes in `class_weight` of task 'b' should be int.*Received: 'x'"),
        ({"check_inputs": "False"}, "`check_inputs` should be True or False. Received: check_inputs='False'"),
    ],
)
def test_compile_names_the_argument(options, says):
    with pytest.raises(ValueError, match=says):
        compiled(**options)


def test_sentinels_may_be_numbers_of_numpy():
    model = compiled(missing={"a": np.int64(-9), "b": np.float32("nan")})
    y = {"a": np.where(X[:, :1] > 0, Y["a"], -9), "b": np.where(X[:, :1] > 0, np.nan, Y["b"])}
    known = X[:, 0] > 0
    expected = {**squares(model, X[known], {"a": y["a"][known]}), **squares(model, X[~known], {"b": y["b"][~known]})}
    logs = model.evaluate(X, y, verbose=0, return_dict=True)
    assert (logs["a_loss"], logs["b_loss"]) == close((expected["a"], expected["b"]))


@pytest.mark.parametrize("kind", [keras.Variable, tf.Variable])
def test_loss_weights_that_are_variables_are_read_at_each_step(kind, tmp_path):
    weight = kind(1.0)
    model = compiled(optimizer=keras.optimizers.SGD(0.0), loss_weights={"a": weight}, run_eagerly=False)
    change = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: weight.assign(1.0 + 9.0 * epoch))
    of = squares(model)
    logs = model.fit(X, Y, epochs=2, callbacks=[change], batch_size=8, verbose=0).history
    assert logs["loss"] == close([of["a"] + of["b"], 10 * of["a"] + of["b"]])
    assert logs["a_weight"] == close([1.0, 10.0])
    assert model.evaluate(X, Y, verbose=0)[0] == close(10 * of["a"] + of["b"])
    model.set_task_weights({"a": 0.0, "b": 2.0})
    assert float(weight.numpy()) == 0.0 and model.task_weights() == {"a": 0.0, "b": 2.0}
    weight.assign(4.0)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").task_weights() == {"a": 4.0, "b": 2.0}


def test_a_weighting_of_another_model_starts_anew():
    from keras_mtl.weighting import Sequential, Uncertainty

    def fold(weighting, tasks=("a", "b")):
        model = compiled(net(names=tasks), optimizer=keras.optimizers.SGD(0.2), weighting=weighting)
        model.fit(X, dict(zip(tasks, Y.values(), strict=True)), batch_size=8, shuffle=False, verbose=0)
        return model, model.weighting.get_weights()

    one = Uncertainty(initial=0.5)
    first, expected = fold(one)
    assert first.weighting is one
    second, found = fold(one)
    assert second.weighting is not one and second.weighting.initial == 0.5
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(one.get_weights(), expected)
    first.compile("sgd", loss=MSE, weighting=one)  # its own goes on
    assert first.weighting is one
    del first
    inside, _ = fold(Sequential([one, "mgda"]))  # its model is gone, its history is not
    assert inside.weighting.weightings[0] is not one and one.get_weights()[0].tolist() == expected[0].tolist()
    compiled(net(names=("a", "b", "c")), weighting=one)


def test_every_weighting_can_be_copied():
    models = net(), net()
    for name in keras_mtl.weighting.names():
        weighting = keras_mtl.weighting.get(name)
        for model in models:
            model.compile("sgd", loss=MSE, weighting=weighting, metrics=["accuracy"])
        assert model.weighting is not weighting and type(model.weighting) is type(weighting)
        assert {**model.weighting.get_config(), "name": ""} == {**weighting.get_config(), "name": ""}

    class Forgetful(keras_mtl.weighting.Uncertainty):
        def __init__(self, extra=1.0):
            super().__init__()

    weighting = Forgetful(extra=2.0)
    compiled(weighting=weighting)
    with pytest.raises(ValueError, match=r"an object of its own.*Forgetful.*`get_config` lacks \['extra'\]"):
        compiled(weighting=weighting)


def test_no_two_logs_are_made_of_one_metric():
    metric = keras.metrics.MeanAbsoluteError(name="mae")
    for options in (
        {"metrics": {"a": [metric], "b": [metric]}},
        {"metrics": {"a": [metric]}, "weighted_metrics": {"a": [metric]}},
        {"metrics": [[metric], [metric]]},
    ):
        with pytest.raises(
            ValueError, match=r"should be metrics of its own.*Received: 'mae', which is in `metrics` of"
        ):
            compiled(**options)


def test_names_of_logs_that_collide():
    for names, options, log in (
        (("a", "val_a"), {}, "'val_a_loss'"),
        (("a", "b"), {"metrics": {"a": [keras.metrics.Mean(name="loss")]}}, "'a_loss'"),
        (("a", "b"), {"metrics": {"a": [keras.metrics.Mean(name="weight")]}}, "'a_weight'"),
        (("a", "a_b"), {"metrics": {"a": [keras.metrics.Mean(name="b_loss")]}}, "'a_b_loss'"),
        (("a_b", "c", "a", "b_c"), {"weighting": "mgda", "diagnostics": True}, "'grad_cosine_a_b_c'"),
    ):
        with pytest.raises(ValueError, match=f"should have names of their own.*Received: two logs named .*{log}"):
            compiled(net(names=names), **options)

    class Tracked(keras_mtl.MultiTaskModel):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.tracker = keras.metrics.Mean(name="loss")

    with pytest.raises(ValueError, match="Received: two logs named 'loss', 'val_loss'"):
        compiled(net(Tracked))
    compiled(net(names=("a_b", "c", "a", "b_c")), weighting="mgda")  # without the pairs, nothing collides


# Overrides.


def tied(base):
    class Tied(base):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
            return loss + 5.0 * ops.mean(ops.square(y_pred["a"] + y_pred["b"] - x[:, :1]))

    return Tied


def test_compute_loss_with_a_further_term_trains_as_plain_keras_does():
    ours, plain = compiled(net(tied(keras_mtl.MultiTaskModel)), run_eagerly=False), net(tied(keras.Model))
    plain.compile(keras.optimizers.SGD(0.05), loss=MSE)
    options = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0, "validation_data": (X, Y)}
    found, expected = (model.fit(X, Y, **options).history for model in (ours, plain))
    for log in ("loss", "val_loss", "a_loss", "val_b_loss"):
        assert found[log] == close(expected[log]), log
    for one, other in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"weighting": "mgda"},
        {"weighting": "mgda", "gradients": "features"},
        {"weighting": "uncertainty"},
        {"weighting": "graddrop"},
        {"weighting": "great"},
        {"weighting": "equal", "on_nonfinite": "skip_task"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_a_further_term_reaches_all_variables_under_every_kind_of_weighting(options):
    """A step with the term and one without it differ by the gradient of the term."""
    moved = []
    for kind in (keras_mtl.MultiTaskModel, tied(keras_mtl.MultiTaskModel)):
        model = compiled(net(kind), optimizer=keras.optimizers.SGD(1.0), **options)
        model.train_on_batch(X, Y)
        names = ("hidden", "a", "b")
        moved.append([v.numpy() for name in names for v in model.get_layer(name).trainable_variables])
    model = net()
    variables = [v for name in names for v in model.get_layer(name).trainable_variables]
    with tf.GradientTape() as tape:
        y_pred = model(X)
        term = 5.0 * ops.mean(ops.square(y_pred["a"] + y_pred["b"] - X[:, :1]))
    for without, with_term, gradient in zip(*moved, tape.gradient(term, variables), strict=True):
        assert np.abs(gradient).max() > 1e-3
        np.testing.assert_allclose(without - with_term, gradient, rtol=1e-3, atol=1e-5)


def test_a_loss_of_ones_own_takes_the_place_of_the_tasks_where_nothing_weighs_them():
    class Own(keras_mtl.MultiTaskModel):
        def compute_loss(self, x, y, y_pred, sample_weight=None):  # as before Keras 3.3
            return ops.mean(ops.square(y_pred["a"] - y["b"]))

    model = compiled(net(Own))
    before = model.get_layer("b").kernel.numpy()
    expected = squares(model, y={"a": Y["b"]})["a"]
    logs = model.fit(X, Y, batch_size=24, verbose=0).history
    assert logs["loss"] == close([expected])
    np.testing.assert_allclose(model.get_layer("b").kernel, before, atol=1e-7)
    for options in ({"weighting": "uncertainty"}, {"weighting": "mgda"}, {"on_nonfinite": "skip_task"}):
        with pytest.raises(ValueError, match="`compute_loss` of Own should add to what `super"):
            compiled(net(Own), **options).fit(X, Y, verbose=0)


# Outputs.


def test_outputs_of_several_tensors_and_lists_of_outputs_say_what_to_write():
    inputs = keras.Input((4,))
    a, b = (layers.Dense(1, name=name)(inputs) for name in "ab")
    for output, line in (
        ({"left": a, "right": b}, r"\{'box_left': output\['left'\], 'box_right': output\['right'\], ...\}"),
        ((a, b), r"\{'box_0': output\[0\], 'box_1': output\[1\], ...\}"),
    ):
        with pytest.raises(ValueError, match=f"output of task 'box' should be one Keras tensor.*{line}"):
            keras_mtl.MultiTaskModel(inputs, {"box": output, "b": b})
    with pytest.raises(ValueError, match=r"such as `outputs=\{'a': outputs\[0\], 'b': outputs\[1\]\}`"):
        keras_mtl.MultiTaskModel(inputs, [a, b])


# Containers of labels.


def kinds_and_prices():
    price = RNG.normal(size=24)
    kind = RNG.integers(0, 3, 24)
    return price, kind


@pytest.fixture(scope="module")
def two_kinds():
    inputs = keras.Input((4,))
    outputs = {"price": layers.Dense(1)(inputs), "kind": layers.Dense(3, activation="softmax")(inputs)}
    model = keras_mtl.MultiTaskModel(inputs, outputs)
    loss = {"price": "mse", "kind": "sparse_categorical_crossentropy"}
    model.compile(keras.optimizers.SGD(0.0), loss=loss, missing="nan", run_eagerly=True)
    return model


def by_hand(model, price, kind):
    predicted = model.predict_on_batch(X)
    entropies = -np.log(predicted["kind"][np.arange(24), np.nan_to_num(kind).astype(int)])
    return {
        "price_loss": close(np.nanmean((predicted["price"][:, 0] - price) ** 2)),
        "kind_loss": close(entropies[~np.isnan(np.asarray(kind, float))].mean()),
    }


def test_lists_and_objects_as_labels(two_kinds):
    price, kind = kinds_and_prices()
    gaps = np.where(np.arange(24) % 4 == 0, np.nan, kind)
    objects = np.array([None if np.isnan(v) else int(v) for v in gaps], object)
    expected = by_hand(two_kinds, price, gaps)
    for y in ([price, gaps], (price, objects), {"price": price.tolist(), "kind": objects}):
        for call in (two_kinds.evaluate, two_kinds.test_on_batch, two_kinds.train_on_batch):
            logs = call(X, y, return_dict=True)
            assert {log: logs[log] for log in expected} == expected
        logs = two_kinds.fit(X, y, validation_data=(X, y), batch_size=24, verbose=0).history
        assert {log: logs[f"val_{log}"][0] for log in expected} == expected
    pairs = tf.data.Dataset.from_tensor_slices((X, (price, gaps.astype("float32")))).batch(24)
    logs = two_kinds.evaluate(pairs, return_dict=True, verbose=0)
    assert {log: logs[log] for log in expected} == expected
    weights = RNG.uniform(size=24)
    logs = two_kinds.evaluate(X, [price, kind], sample_weight=[weights, None], return_dict=True, verbose=0)
    predicted = two_kinds.predict_on_batch(X)["price"][:, 0]
    assert logs["price_loss"] == close(np.mean(weights * (predicted - price) ** 2))


def test_containers_that_are_refused_say_what_to_write(two_kinds):
    price, kind = kinds_and_prices()
    with pytest.raises(ValueError, match=r"list in the order of the tasks.*`y=\{'price': ..., 'kind': ...\}`"):
        two_kinds.fit(X, [price, kind, kind])
    names = np.array(["cat", "dog", "cow"])[kind]
    for labels in (names, names.astype(object)):
        with pytest.raises(ValueError, match=r"`y` of task 'kind' should be numbers.*return_inverse.*Received: "):
            two_kinds.fit(X, {"price": price, "kind": labels})
    with pytest.raises(ValueError, match="`sample_weight` of task 'kind' should have no entries that are None or NA"):
        two_kinds.fit(X, {"price": price, "kind": kind}, sample_weight={"kind": [None] * 24})
    model = compiled()
    with pytest.raises(ValueError, match=r"None or NA: `compile\(missing=\{'a': 'nan'\}\)`.*Received: 24 of 24"):
        model.fit(X, {"a": [None] * 24, "b": Y["b"]})


def test_frames_and_series_as_labels(two_kinds):
    pandas = pytest.importorskip("pandas")
    price, kind = kinds_and_prices()
    index = np.arange(24)[::-1]  # positions count, not labels of rows
    column = pandas.Series(kind, index=index).astype("Int64")
    column.iloc[::4] = pandas.NA
    gaps = np.where(np.arange(24) % 4 == 0, np.nan, kind)
    frame = pandas.DataFrame({"kind": column, "price": pandas.Series(price, index=index)})
    expected = by_hand(two_kinds, price, gaps)
    for y in (frame, {"price": frame["price"], "kind": frame["kind"]}, [frame["price"], frame["kind"]]):
        logs = two_kinds.evaluate(X, y, return_dict=True, verbose=0)
        assert {log: logs[log] for log in expected} == expected
    logs = two_kinds.fit(pandas.DataFrame(X), frame, validation_data=(X, frame), verbose=0, batch_size=24).history
    assert {log: logs[f"val_{log}"][0] for log in expected} == expected
    two_kinds.fit(X, frame, validation_split=0.25, verbose=0)
    weights = pandas.DataFrame({"price": np.ones(24), "kind": 2 * np.ones(24)})
    logs = two_kinds.evaluate(X, frame, sample_weight=weights, return_dict=True, verbose=0)
    assert logs["kind_loss"] == close(2 * expected["kind_loss"].expected)
    with pytest.raises(ValueError, match=r"The keys of `y` should be tasks.*Received: \['id'\]"):
        two_kinds.fit(X, frame.assign(id=1), verbose=0)
    inputs = keras.Input((4,))
    sentinel = keras_mtl.MultiTaskModel(inputs, {"kind": layers.Dense(3, activation="softmax")(inputs)})
    sentinel.compile("sgd", loss="sparse_categorical_crossentropy", missing=-1)
    sentinel.set_weights(two_kinds.task_model("kind").get_weights())
    assert sentinel.evaluate(X, column, verbose=0)[1] == expected["kind_loss"]


# Inputs that are not finite.


class Fill(layers.Layer):
    def call(self, inputs):
        return ops.clip(ops.where(ops.isnan(inputs), 0.0, inputs), -3.0, 3.0)


def filling(kind=keras_mtl.MultiTaskModel):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = Fill()(inputs)
    return kind(inputs, {name: layers.Dense(1, name=name)(hidden) for name in "ab"})


def spoiled(*values):
    x = X.copy()
    x[: len(values), 0] = values
    return x


def as_data(x):
    return tf.data.Dataset.from_tensor_slices((x, Y)).batch(8)


@pytest.mark.parametrize(
    ("x", "array_says", "data_says"),
    [
        (spoiled(np.nan, np.nan), "shape .24, 4. with 2 NaN. Labels", "Received: NaN in the inputs"),
        (spoiled(np.inf, -np.inf), "with 2 infinite entries. Labels", "Received: infinity in the inputs"),
        (spoiled(np.nan, np.inf), "with 1 NaN and 1 infinite entries. Labels", "Received: NaN in the inputs"),
    ],
    ids=["NaN", "infinity", "both"],
)
def test_inputs_are_checked_alike_wherever_they_come_from(x, array_says, data_says):
    model = compiled(filling())
    before = model.get_weights()
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=f"`x` should be finite. Received: .*{array_says}.*check_inputs=False"):
            call(x, Y)
    for call in (model.fit, model.evaluate, lambda data, verbose: model.fit(X, Y, validation_data=data, verbose=0)):
        if call != model.fit:
            before = None
        with pytest.raises(ValueError, match=f"`x` should be finite. {data_says} of .*check_inputs=False"):
            call(as_data(x), verbose=0)
        for old, new in zip(before or (), model.get_weights(), strict=False):
            np.testing.assert_array_equal(old, new)
    model.fit(as_data(X), verbose=0)  # nothing is left of it


def test_large_inputs_are_finite():
    x = np.full((24, 4), 3e38, "float32")
    assert np.isfinite(compiled(filling()).evaluate(x, Y, verbose=0)).all()
    assert np.isfinite(compiled(filling()).evaluate(as_data(x), verbose=0)).all()


def test_inputs_that_layers_fill_pass_where_they_are_not_checked(tmp_path):
    x = spoiled(np.nan, np.inf, -np.inf)
    plain = filling(keras.Model)
    plain.compile(keras.optimizers.SGD(0.05), loss=MSE, run_eagerly=True)
    expected = plain.fit(as_data(x), verbose=0).history["loss"]
    models = [compiled(filling(), check_inputs=False), compiled(filling(), on_nonfinite="skip_step")]
    for model in models:
        assert model.fit(x, Y, batch_size=8, shuffle=False, verbose=0).history["loss"] == close(expected)
    assert models[0].evaluate(x, Y, verbose=0)[0] == close(plain.evaluate(x, Y, verbose=0)[0])
    assert models[0].get_compile_config()["check_inputs"] is False


# No labels.


def test_no_labels_at_all_is_an_error():
    model = compiled()
    for call in (model.fit, model.evaluate, model.test_on_batch, model.train_on_batch):
        with pytest.raises(ValueError, match="`y` should be given, as a dict keyed by task"):
            call(X)
    with pytest.raises(ValueError, match="`validation_data` should have labels"):
        model.fit(X, Y, validation_data=(X,))
    assert model.optimizer.iterations.numpy() == 0


def test_a_task_without_labels_is_nan_and_the_total_that_of_the_others():
    model = compiled(
        missing="nan",
        metrics=["mae"],
        loss_weights={"a": 3.0},
        delta_m={"a": {"mae": 1.0}, "b": {"mae": 1.0}},
    )
    of = squares(model)
    for y in ({"a": Y["a"]}, {**Y, "b": np.full_like(Y["b"], np.nan)}):
        with pytest.warns(UserWarning, match=r"Task 'b' had no labelled example in the data of `evaluate`"):
            logs = model.evaluate(X, y, verbose=0, return_dict=True)
        assert logs["loss"] == close(3 * of["a"]) and logs["a_loss"] == close(of["a"])
        assert np.isnan([logs["b_loss"], logs["b_mae"], logs["delta_m"]]).all() and np.isfinite(logs["a_mae"])
    nothing = {task: np.full_like(labels, np.nan) for task, labels in Y.items()}
    with pytest.warns(UserWarning, match="had no labelled example"):
        assert np.isnan(model.evaluate(X, nothing, verbose=0)).all()


def test_one_warning_of_validation_data_without_a_task():
    model = compiled(metrics=["mae"], missing="nan")
    stop = keras_mtl.callbacks.TaskEarlyStopping(["b"], patience=2)
    with pytest.warns(UserWarning, match="no labelled") as caught:
        logs = model.fit(X, Y, epochs=3, validation_data=(X, {"a": Y["a"]}), callbacks=[stop], verbose=0).history
    said = [str(w.message) for w in caught if "no labelled" in str(w.message)]
    assert len(said) == 1 and "Task 'b'" in said[0] and "in the validation data" in said[0]
    assert np.isnan(logs["val_b_loss"] + logs["val_b_mae"]).all()
    assert np.isfinite(logs["val_loss"] + logs["b_loss"]).all()
    assert stop.stopped == {"b": 1}  # a loss that is not known is no better


def test_a_task_whose_first_epoch_had_no_labels_stops_by_those_that_have_some():
    stop = keras_mtl.callbacks.TaskEarlyStopping(["a"], patience=2, monitor="{task}_loss", mode="min")
    stop.set_model(compiled())
    stop.on_train_begin()
    for epoch, loss in enumerate([np.nan, 3.0, 2.0, np.nan, 2.5]):
        assert stop.stopped == {}
        stop.on_epoch_end(epoch, {"a_loss": loss})
    assert stop.stopped == {"a": 4}


def test_outputs_without_a_loss_have_metrics_of_what_is_labelled():
    model = compiled(loss={"a": "mse"}, metrics={"b": ["mae"]})
    assert np.isnan(model.evaluate(X, {"a": Y["a"]}, verbose=0)[-1])
    expected = np.mean(np.abs(model.predict_on_batch(X)["b"] - Y["b"]))
    assert model.evaluate(X, Y, verbose=0)[-1] == close(expected)
    assert np.isnan(model.evaluate(X, {"a": Y["a"]}, verbose=0)[-1])


def test_a_first_batch_without_labels_does_not_end_a_training():
    y = {task: np.where(np.arange(24)[:, None] < 8, np.nan, labels) for task, labels in Y.items()}
    model = compiled(missing="nan")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Task")
        history = model.fit(
            X, y, batch_size=8, epochs=2, shuffle=False, callbacks=[keras.callbacks.TerminateOnNaN()], verbose=0
        )
    assert len(history.history["loss"]) == 2 and np.isfinite(history.history["b_loss"]).all()
