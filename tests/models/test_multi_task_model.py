"""The model itself: who shares what, single-task models, new tasks, refused arguments."""

import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from tests.rows import by_default

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 1.0, size=(16, 4)).astype("float32")
Y = {"a": X[:, 0], "b": RNG.integers(0, 3, 16)}
LOSS = {"a": "mse", "b": "sparse_categorical_crossentropy"}


def build(depth=None, **options):
    stages = [
        [layers.Dense(6, activation="relu", name="fc"), layers.BatchNormalization(name="norm")],
        layers.Dense(5, activation="relu", name="deep", kernel_regularizer="l2"),
    ]
    heads = {"a": layers.Dense(1, name="out"), "b": layers.Dense(3, activation="softmax", name="out")}
    return keras_mtl.hard_sharing(keras.Input((4,)), stages, heads, shared_depth=depth, **options)


def trained():
    model = build()
    model.compile("adam", loss=LOSS, run_eagerly=True)
    model.fit(X, Y, batch_size=8, verbose=0)
    return model


def paths(variables):
    return [v.path for v in variables]


def test_sharing_is_found_from_the_graph_of_any_functional_model():
    """Three tasks: x serves all, y two of them, z and the outputs one; w is made from one layer called twice."""
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="x")
    y = layers.Dense(3, name="y")
    h = x(inputs)
    g = y(h)
    outputs = {"a": layers.Dense(1, name="oa")(g), "b": layers.Dense(1, name="ob")(g)}
    outputs["c"] = layers.Dense(1, name="oc")(layers.Dense(2, name="z")(h))
    model = keras_mtl.MultiTaskModel(inputs, outputs)
    assert model.tasks == ("a", "b", "c")
    assert set(paths(model.shared_variables)) == {"x/kernel", "x/bias", "y/kernel", "y/bias"}
    assert set(paths(model.task_variables("c"))) == {"z/kernel", "z/bias", "oc/kernel", "oc/bias"}
    assert model.sharing.tasks_of(y) == ("a", "b")
    assert len(model.trainable_variables) == len(model.shared_variables) + sum(
        len(model.task_variables(task)) for task in model.tasks
    )
    with pytest.raises(ValueError, match=re.escape("`task` should be one of ('a', 'b', 'c'). Received: task='d'")):
        model.task_variables("d")


def test_sharing_summary_counts():
    text = []
    model = build(depth=1)
    model.sharing_summary(print_fn=text.append)
    (table,) = text
    shared = 4 * 6 + 6 + 4 * 6
    own = {"a": 6 * 5 + 5 + 5 + 1, "b": 6 * 5 + 5 + 15 + 3}
    total = shared + sum(own.values())
    assert model.count_params() == total
    serving = next(line for line in table.splitlines() if "serving the task" in line)
    assert re.findall(r"\d+", serving) == [str(total), str(shared + own["a"]), str(shared + own["b"])]
    both = next(line for line in table.splitlines() if "two tasks or more" in line)
    assert re.findall(r"\d+", both) == [str(shared)]
    row = next(line for line in table.splitlines() if "shared_stage_1" in line)
    assert row.count("●") == 2
    assert next(line for line in table.splitlines() if "b_deep" in line).count("●") == 1


def test_task_model_has_only_what_the_task_needs():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    hidden = layers.Dense(3)(left)
    joint = layers.Concatenate()([hidden, right])
    for inputs in ([left, right], {"left": left, "right": right}):
        model = keras_mtl.MultiTaskModel(inputs, {"a": layers.Dense(1)(hidden), "b": layers.Dense(1)(joint)})
        x = [X, X + 1] if isinstance(inputs, list) else {"left": X, "right": X + 1}
        out = model(x)
        alone = model.task_model("a")
        assert [tensor.name for tensor in alone.inputs] == ["left"]
        np.testing.assert_allclose(alone([X] if isinstance(inputs, list) else {"left": X}), out["a"], rtol=1e-6)
        np.testing.assert_allclose(model.task_model("b")(x), out["b"], rtol=1e-6)
    assert not isinstance(alone, keras_mtl.MultiTaskModel)


@pytest.mark.parametrize("freeze", by_default(["trunk", None], ["all", "trunk", None]))
def test_a_new_task_leaves_old_ones_as_they_are_when_frozen(freeze):
    """Bit for bit, batch normalization included, although the new data has other statistics."""
    model = trained()
    before = model.predict(X, verbose=0)
    bigger = model.add_task("c", [layers.Dense(4, name="hidden"), layers.Dense(1, name="out")], freeze=freeze)
    assert bigger.tasks == ("a", "b", "c") and model.tasks == ("a", "b")
    moving = {None: {"shared", "a", "b", "c"}, "trunk": {"a", "b", "c"}, "all": {"c"}}[freeze]
    assert {path.split("/")[0] for path in paths(bigger.trainable_variables)} == moving
    bigger.compile(keras.optimizers.Adam(0.1), loss={"c": "mse"}, run_eagerly=True)
    start = [v.numpy() for v in bigger.task_variables("c")]
    bigger.fit(10 * X, {"c": X[:, 0]}, epochs=2, verbose=0)
    assert all(np.abs(v.numpy() - old).max() > 0 for v, old in zip(bigger.task_variables("c"), start, strict=True))
    after = bigger.predict(X, verbose=0)
    for task in "ab":
        assert np.array_equal(before[task], after[task]) == (freeze is not None)
    assert after["c"].shape == (16, 1)


@pytest.mark.parametrize("weighting", by_default(["mgda"], ["equal", "uncertainty", "mgda"]))
def test_a_new_task_trains_together_with_the_old_ones(weighting, tmp_path):
    bigger = trained().add_task("c", layers.Dense(1, name="out"))
    bigger.compile("sgd", loss={**LOSS, "c": "mse"}, weighting=weighting, run_eagerly=True)
    history = bigger.fit(X, {**Y, "c": X[:, 1]}, verbose=0).history
    assert {"a_loss", "b_loss", "c_loss", "c_weight"} <= set(history)
    bigger.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").tasks == ("a", "b", "c")


def test_a_new_task_at_a_named_layer():
    model = build()
    bigger = model.add_task("c", layers.Dense(1), at="shared_stage_1")
    assert bigger.task_model("c").count_params() == (4 * 6 + 6 + 4 * 6) + 7
    columns = build(depth=0)
    with pytest.raises(ValueError, match="no layer that two tasks share"):
        columns.add_task("c", layers.Dense(1))
    with pytest.raises(ValueError, match=r"`name` should be a new task. Received: name='a'"):
        model.add_task("a", layers.Dense(1))
    with pytest.raises(ValueError, match=r"`freeze` should be None, 'trunk' or 'all'. Received: freeze='head'"):
        model.add_task("c", layers.Dense(1), freeze="head")
    with pytest.raises(ValueError, match="head of task 'c' should be a Keras layer"):
        model.add_task("c", "dense")


def test_a_second_task_on_a_model_with_one():
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3)], {"a": layers.Dense(1)})
    bigger = model.add_task("b", layers.Dense(1))
    assert parameters_of(bigger.shared_variables) == 15


def parameters_of(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


# Refused arguments: which one, what was expected, what came, and for which task.


def sharing(**options):
    given = {
        "inputs": keras.Input((4,)),
        "stages": [layers.Dense(3, name="first")],
        "heads": {"a": layers.Dense(1), "b": layers.Dense(1)},
    }
    return keras_mtl.hard_sharing(**{**given, **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"heads": {}}, "at least one task. Received: no tasks"),
        ({"heads": [layers.Activation("relu")]}, "`heads` should be a dict from task to Keras layer. Received: heads="),
        ({"heads": {"a": "dense"}}, "The head of task 'a' should be a Keras layer.*Received: 'dense'"),
        ({"heads": {"a": []}}, "The head of task 'a' should be a Keras layer or a non-empty list"),
        ({"heads": {"a/b": layers.Activation("relu")}}, r"no '/'.*Received: task='a/b'"),
        ({"heads": {"a b": layers.Activation("relu")}}, "no spaces.*Received: task='a b'"),
        ({"heads": {"": layers.Activation("relu")}}, "Received: task=''"),
        ({"heads": {".": layers.Activation("relu")}}, r"start with a letter or a digit.*Received: task='\.'"),
        ({"heads": {"..": layers.Activation("relu")}}, r"folders. Received: task='\.\.'"),
        ({"heads": {".hidden": layers.Activation("relu")}}, r"Received: task='\.hidden'"),
        ({"heads": {"a\\b": layers.Activation("relu")}}, r"Received: task='a\\\\b'"),
        ({"heads": {"a\n": layers.Activation("relu")}}, r"Received: task='a\\n'"),
        ({"heads": {"a\x00": layers.Activation("relu")}}, r"Received: task='a\\x00'"),
        ({"heads": {"<img>": layers.Activation("relu")}}, "Received: task='<img>'"),
        ({"heads": {3: layers.Activation("relu")}}, "Received: task=3"),
        ({"heads": {"shared": layers.Activation("relu")}}, "taken and should not name a task.*task='shared'"),
        ({"heads": {"loss": layers.Activation("relu")}}, "taken and should not name a task.*task='loss'"),
        ({"stages": layers.Activation("relu")}, "`stages` should be a list of Keras layers. Received: stages="),
        ({"stages": [layers.Activation("relu"), "dense"]}, r"`stages\[1\]` should be a Keras layer.*Received: 'dense'"),
        ({"inputs": (4,)}, r"`inputs` should be a `keras.Input`.*Received: inputs=\(4,\)"),
        ({"shared_depth": 2}, "`shared_depth` should be `None` or an integer from 0 to 1. Received: .*=2"),
        ({"shared_depth": -1}, "Received: shared_depth=-1"),
        ({"shared_depth": 0.5}, "Received: shared_depth=0.5"),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items())[:40] if isinstance(value, dict) else "",
)
def test_builder_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        sharing(**options)


def test_builder_refuses_layers_that_do_not_fit():
    with pytest.raises(ValueError, match=r"`stages\[1\]` \('shared_conv'\) should take .* of shape \(None, 3\)"):
        sharing(stages=[layers.Dense(3), layers.Conv2D(2, 3, name="conv")])
    with pytest.raises(ValueError, match=r"`stages\[0\]`.*'a'.* should take what comes before it"):
        sharing(stages=[layers.Conv2D(2, 3, name="conv")], shared_depth=0)
    with pytest.raises(ValueError, match=r"The head of task 'a'.* of shape \(None, 3\).*The layer says"):
        sharing(heads={"a": layers.Conv2D(2, 3)})


def test_builder_refuses_one_layer_in_two_places():
    layer = layers.Dense(3, name="twice")
    with pytest.raises(ValueError, match=r"'twice' stands in the head of task 'a' and again in the head of task 'b'"):
        sharing(heads={"a": layer, "b": layer})
    with pytest.raises(ValueError, match=r"'twice' stands in `stages\[0\]` and again in `stages\[1\]`"):
        sharing(stages=[layer, layer])


def test_model_refuses_outputs_without_names():
    inputs = keras.Input((4,))
    out = layers.Dense(1)(inputs)
    with pytest.raises(ValueError, match="`outputs` should be a dict from task to Keras tensor"):
        keras_mtl.MultiTaskModel(inputs, [out])
    with pytest.raises(ValueError, match="at least one task"):
        keras_mtl.MultiTaskModel(inputs, {})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": None}, r"`loss` should be given.*\['a', 'b'\].*loss=None"),
        ({"loss": {}}, "`loss` should be given for at least one task"),
        ({"loss": {"c": "mse"}}, r"The keys of `loss` should be tasks: \['a', 'b'\]. Received: \['c'\]"),
        ({"loss": {"a": "no_loss"}}, "The loss of task 'a' should be a Keras loss. Received: 'no_loss'"),
        ({"loss": {"a": 3}}, "The loss of task 'a' should be a Keras loss. Received: 3"),
        (
            {"loss": {"a": keras.losses.MeanSquaredError(reduction=None)}},
            "loss of task 'a' should reduce to a number.*Received: reduction=None",
        ),
        ({"loss_weights": {"c": 1.0}}, r"The keys of `loss_weights` should be tasks.*Received: \['c'\]"),
        ({"loss_weights": [1.0]}, r"`loss_weights` should be a dict keyed by task, or a list.* Received: .*\[1.0\]"),
        ({"loss_weights": {"a": -1.0}}, "`loss_weights` should be finite and at least 0"),
        ({"loss_weights": {"a": float("nan")}}, "`loss_weights` should be finite and at least 0"),
        ({"metrics": {"c": ["mae"]}}, r"The keys of `metrics` should be tasks.*Received: \['c'\]"),
        ({"metrics": {"a": ["no_metric"]}}, "The metrics of task 'a' should be Keras metrics. Received: 'no_metric'"),
        ({"weighted_metrics": {"c": ["mae"]}}, r"The keys of `weighted_metrics` should be tasks.*Received: \['c'\]"),
        ({"metrics": [keras.metrics.MeanSquaredError()]}, "`metrics` should be a dict keyed by task"),
        ({"weighting": "no_method"}, r"`weighting` should be one of \[.*'equal'.*'mgda'.*'uncertainty'.*'no_method'"),
        ({"weighting": 3}, "`weighting` should be one of .*Received: weighting=3"),
        ({"gradients": "inputs"}, "`gradients` should be one of .*'features'.*Received: gradients='inputs'"),
        ({"missing": {"c": "nan"}}, r"The keys of `missing` should be tasks.*Received: \['c'\]"),
        ({"missing": {"a": "none"}}, "`missing` of task 'a' should be 'nan', a number or None. Received: 'none'"),
        ({"class_weight": {"c": {0: 1.0}}}, r"The keys of `class_weight` should be tasks.*Received: \['c'\]"),
        ({"class_weight": {"a": 2.0}}, "`class_weight` of task 'a' should be a dict from class to weight. Received: 2"),
        ({"sample_space": {"a": "c"}}, "`sample_space` of task 'a' should name another task of .*Received: 'c'"),
        ({"sample_space": {"c": "a"}}, r"The keys of `sample_space` should be tasks.*Received: \['c'\]"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_compile_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        build().compile("sgd", **{"loss": LOSS, **options})


def test_a_refused_compile_leaves_the_model_as_it_was():
    model = trained()
    with pytest.raises(ValueError, match="`weighting`"):
        model.compile("sgd", loss=LOSS, weighting="no_method")
    assert model.weighting.name.startswith("equal") and model.optimizer.name.startswith("adam")
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("y", "options", "says"),
    [
        ({**Y, "c": X}, {}, r"The keys of `y` should be tasks: \('a', 'b'\). Received: \['c'\]"),
        (Y["a"], {}, r"`y` should be a dict keyed by task, \('a', 'b'\). Received: "),
        (Y, {"sample_weight": {"c": X[:, 0]}}, r"The keys of `sample_weight` should be tasks.*Received: \['c'\]"),
    ],
)
def test_fit_refuses(y, options, says):
    model = build()
    model.compile("sgd", loss=LOSS)
    with pytest.raises(ValueError, match=says):
        model.fit(X, y, verbose=0, **options)


def test_nan_in_the_inputs():
    model = build()
    model.compile("sgd", loss=LOSS)
    x = X.copy()
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"`x` should be finite. Received: .*shape \(16, 4\) with 1 NaN. Labels may"):
        model.fit(x, Y, verbose=0)
    import tensorflow as tf

    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3, activation="tanh")], {"a": layers.Dense(1)})
    model.compile("sgd", loss="mse")
    data = tf.data.Dataset.from_tensor_slices((x, {"a": Y["a"]})).batch(8)  # not seen before it is read
    with pytest.raises(ValueError, match=r"`x` should be finite\. Received: NaN in the inputs of a training step"):
        model.fit(data, verbose=0)


def test_nan_labels_that_were_not_announced():
    model = build()
    model.compile("sgd", loss=LOSS)
    y = {**Y, "a": np.where(X[:, 0] > 2, np.nan, X[:, 0])}
    with pytest.raises(FloatingPointError, match=r"in the loss of \['a'\].*labels that `missing` does not"):
        model.fit(X, y, verbose=0)
