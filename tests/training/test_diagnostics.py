"""Cosines and conflicts of task gradients as by-products: `compile(diagnostics=True)`."""

import keras
import numpy as np
import pytest

import keras_mtl

X = np.eye(2, dtype="float32")


def make_model(weighting="mgda", tasks=("a", "b", "c"), **options):
    """Linear tasks of one shared layer with fixed heads: the task gradients can be worked out by hand."""
    inputs = keras.Input((2,))
    shared = keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros")(inputs)
    heads = {"a": [1.0, 0.0], "b": [1.0, 0.0], "c": [0.0, 1.0]}
    outputs = {
        task: keras.layers.Dense(
            1, use_bias=False, kernel_initializer=keras.initializers.Constant(np.reshape(heads[task], (2, 1)))
        )(shared)
        for task in tasks
    }
    model = keras_mtl.MultiTaskModel(inputs, outputs)
    # A learning rate of 0: all steps have the same gradients.
    model.compile(
        keras.optimizers.SGD(0.0),
        dict.fromkeys(tasks, "mse"),
        weighting=weighting,
        jit_compile=False,
        **{"diagnostics": True, "run_eagerly": True, **options},
    )
    return model


def labels(a, b, c):
    return {task: np.array(y, "float32").reshape(2, 1) for task, y in {"a": a, "b": b, "c": c}.items()}


# Outputs are 0, so dL/dkernel is -(1/2) 2 sum_i y_i x_i h^T: the cosine of a and b is that of their label vectors,
# and c has another head, at a right angle to theirs.
OPPOSED = labels([1, 0], [-1, 1], [2, 2])
ALIKE = labels([1, 0], [1, 1], [-1, 3])


def test_cosines_of_pairs_and_conflict_rate_by_hand():
    model = make_model(run_eagerly=False)
    logs = model.fit(X, OPPOSED, batch_size=2, verbose=0).history
    np.testing.assert_allclose(logs["grad_cosine_a_b"], [-(0.5**0.5)], rtol=1e-6)
    np.testing.assert_allclose(logs["grad_cosine_a_c"], [0.0], atol=1e-7)
    np.testing.assert_allclose(logs["conflict_rate"], [1 / 3], rtol=1e-6)
    np.testing.assert_allclose(logs["grad_cosine"], [-(0.5**0.5) / 3], rtol=1e-6)
    np.testing.assert_allclose([logs[f"{t}_grad_norm"] for t in "abc"], [[1.0], [2**0.5], [8**0.5]], rtol=1e-6)
    # Every epoch counts for itself.
    logs = model.fit(X, ALIKE, batch_size=2, verbose=0).history
    np.testing.assert_allclose(logs["grad_cosine_a_b"], [0.5**0.5], rtol=1e-6)
    assert logs["conflict_rate"] == [0.0]


def test_pairs_count_where_both_tasks_are_present():
    model = make_model(missing="nan")
    nothing = np.full((2, 1), np.nan, "float32")
    y = {task: np.concatenate([OPPOSED[task], nothing if task == "b" else OPPOSED[task]]) for task in "abc"}
    logs = model.fit(np.concatenate([X, X]), y, batch_size=2, shuffle=False, verbose=0).history
    np.testing.assert_allclose(logs["grad_cosine_a_b"], [-(0.5**0.5)], rtol=1e-6)
    np.testing.assert_allclose(logs["conflict_rate"], [1 / 4], rtol=1e-6)  # one of 3 pairs and none of 1


def test_cosines_do_not_overflow():
    y = {task: 1e18 * label for task, label in OPPOSED.items()}
    logs = make_model("pcgrad").fit(X, y, batch_size=2, verbose=0).history
    np.testing.assert_allclose(logs["grad_cosine_a_b"], [-(0.5**0.5)], rtol=1e-6)


@pytest.mark.parametrize("options", [{"weighting": "graddrop"}, {"weighting": "nash", "gradients": "features"}])
def test_wherever_task_gradients_are_seen(options):
    logs = make_model(**options).fit(X, OPPOSED, batch_size=2, verbose=0).history
    assert logs["grad_cosine_a_b"][0] < 0 and logs["conflict_rate"][0] > 0


def test_survives_save_and_load(tmp_path):
    model = make_model()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    logs = again.fit(X, OPPOSED, batch_size=2, verbose=0).history
    np.testing.assert_allclose(logs["conflict_rate"], [1 / 3], rtol=1e-6)


def test_off_unless_asked_for_and_not_in_evaluation():
    logs = make_model(diagnostics=False).fit(X, OPPOSED, batch_size=2, verbose=0).history
    assert "conflict_rate" not in logs and "grad_cosine" in logs
    assert "conflict_rate" not in make_model().evaluate(X, OPPOSED, verbose=0, return_dict=True)


@pytest.mark.parametrize("weighting", ["equal", "uncertainty"])
def test_refused_where_no_gradients_are_seen(weighting):
    with pytest.raises(ValueError, match=r"`diagnostics` should be False with weighting .*diagnostics=True"):
        make_model(weighting)


def test_wrong_values_are_named():
    with pytest.raises(ValueError, match=r"`diagnostics` should be True or False\. Received: diagnostics='yes'"):
        make_model(diagnostics="yes")
