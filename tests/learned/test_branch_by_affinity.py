"""Trees by difficulty: affinity and clusters of planted factors, thin trunks, and growing without a jump."""

import keras
import numpy as np
import pytest
from keras.layers import AveragePooling2D, BatchNormalization, Conv2D, Dense, Flatten

import keras_mtl
from keras_mtl.learned import branch_by_affinity
from keras_mtl.learned._difficulty import (
    best_split,
    branch_affinity,
    difficulty_affinity,
    sample_errors,
    separation,
    spectral_clusters,
)
from keras_mtl.models.thin_stages import select_columns

PLANTED = [[0, 1, 2], [3, 4], [5, 6, 7]]


def planted_errors(seed):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(3, 4000))
    group = {task: factors[g] for g, tasks in enumerate(PLANTED) for task in tasks}
    return {task: group[task] + 0.6 * rng.normal(size=4000) for task in range(8)}


@pytest.mark.parametrize("seed", range(5))
def test_planted_factors_are_found(seed):
    affinity = difficulty_affinity(planted_errors(seed))
    within = [affinity[i, j] for group in PLANTED for i in group for j in group if i < j]
    between = [affinity[i, j] for i in (0, 1, 2) for j in (3, 4, 5, 6, 7)]
    assert np.mean(within) == pytest.approx(0.76, abs=0.03)  # 1/2 + arcsin(1 / 1.36) / pi
    assert np.mean(between) == pytest.approx(0.5, abs=0.03)
    assert spectral_clusters(affinity, 3) == PLANTED
    assert best_split(affinity, branch_cost=0.05, separation_weight=0.5) == PLANTED


def test_affinity_of_four_examples_by_hand():
    errors = {
        "a": np.array([0.0, 1.0, 0.0, 3.0]),
        "b": np.array([0.0, 2.0, 0.0, np.nan]),
        "c": np.array([1.0, 0, 0, 1]),
    }
    affinity = difficulty_affinity(errors)
    # Difficult: a {1, 3} (mean 1), b {1} (mean 2/3, no label at 3), c {0, 3} (mean 1/2).
    np.testing.assert_allclose(affinity, [[1, 1, 0.5], [1, 1, 1 / 3], [0.5, 1 / 3, 1]])
    with pytest.raises(ValueError, match="Tasks 'a' and 'b'"):
        difficulty_affinity({"a": np.array([1.0, np.nan]), "b": np.array([np.nan, 1.0])})


def test_branches_take_the_least_of_the_other_side():
    affinity = np.array([[1.0, 0.9, 0.6], [0.9, 1.0, 0.5], [0.6, 0.5, 1.0]])
    found = branch_affinity(affinity, [[0, 1], [2]])
    assert found[0, 1] == found[1, 0] == pytest.approx(((0.6 + 0.5) / 2 + 0.5) / 2)
    assert found[0, 0] == found[1, 1] == 1.0
    assert separation(affinity, [[0], [1], [2]]) == 0.0
    assert separation(affinity, [[0, 1, 2]]) == pytest.approx((0.4 + 0.5 + 0.5) / 3)
    assert separation(affinity, [[0, 1], [2]]) == pytest.approx((0.1 + 0.1 + 0.0) / 3)


def test_errors_of_each_kind_of_label():
    outputs = {
        "number": np.array([[1.0], [2.0]]),
        "logit": np.array([[3.0], [-2.0]]),
        "classes": np.array([[0.2, 0.8], [0.6, 0.4]]),
        "one_hot": np.array([[2.0, 0.0], [0.0, 0.0]]),
    }

    class Fixed:
        tasks = tuple(outputs)

        def predict(self, x, verbose):
            return outputs

    y = {
        "number": np.array([3.0, np.nan]),
        "logit": np.array([1, 1]),
        "classes": np.array([1, 1]),
        "one_hot": np.array([[1, 0], [0, 1]]),
    }
    found = sample_errors(Fixed(), None, y)
    np.testing.assert_allclose(found["number"], [2.0, np.nan])
    np.testing.assert_allclose(found["logit"], [1 - 1 / (1 + np.exp(-3)), 1 - 1 / (1 + np.exp(2))])
    np.testing.assert_allclose(found["classes"], [0.2, 0.6])
    np.testing.assert_allclose(found["one_hot"], [1 - 1 / (1 + np.exp(-2)), 0.5])


def test_a_planted_rank_is_found_where_chance_fails():
    rng = np.random.default_rng(0)
    basis, mix = rng.normal(size=(64, 8)), rng.normal(size=(8, 32))
    matrix = basis @ mix + 0.1 * rng.normal(size=(64, 32))

    def left(columns):
        return np.linalg.norm(matrix - matrix[:, columns] @ np.linalg.lstsq(matrix[:, columns], matrix, rcond=None)[0])

    columns, found = select_columns(matrix, 8)
    assert np.linalg.norm(matrix - matrix[:, columns] @ found) == pytest.approx(left(columns))
    assert left(columns) < min(left(rng.choice(32, 8, replace=False)) for _ in range(50))


def test_thin_stages_that_lose_nothing_compute_the_same():
    inputs = keras.Input((8, 8, 2))
    wide = [
        [Conv2D(4, 3, name="conv"), BatchNormalization(name="norm"), AveragePooling2D(2, name="pool")],
        [Flatten(name="flat"), Dense(6, name="dense")],
        Dense(3, name="last"),
    ]
    whole = keras_mtl.hard_sharing(inputs, wide, {"a": Dense(1)})
    for layer in (wide[0][0], wide[1][1]):  # half of the channels repeat the others, scaled
        kernel, bias = layer.get_weights()
        half = kernel.shape[-1] // 2
        kernel[..., half:] = -2 * kernel[..., :half]
        layer.set_weights([kernel, bias])
    thin = keras_mtl.models.thin_stages(inputs, wide, keep={"conv": 2, "dense": 3})
    assert [tuple(stack[-1].kernel.shape) for stack in thin[1:]] == [(18, 3), (3, 3)]
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype("float32")
    value = x
    for layer in [layer for stack in thin for layer in stack]:
        value = layer(value)
    expected = keras.Model(whole.input, whole.layers[-1].input)
    np.testing.assert_allclose(value, expected(x), rtol=1e-3, atol=1e-4)


def test_layers_that_cannot_be_thinned_say_so():
    with pytest.raises(ValueError, match="'lstm' should be a Dense"):
        keras_mtl.models.thin_stages(keras.Input((4, 2)), [keras.layers.LSTM(3, name="lstm")], keep=0.5)
    with pytest.raises(ValueError, match="'new' should be built"):
        keras_mtl.models.thin_stages(keras.Input((4,)), [Dense(3, name="new")], keep=0.5)
    with pytest.raises(ValueError, match="`count`"):
        select_columns(np.eye(3), 4)


def test_growing_changes_no_output_until_it_is_trained():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype("float32")
    y = dict.fromkeys("abcd", x[:, :1])
    errors = {t: rng.normal(size=40) for t in "ac"}
    errors |= {"b": errors["a"], "d": errors["c"]}
    seen = []
    model, tree = branch_by_affinity(
        keras.Input((4,)),
        [Dense(5, activation="tanh", name=name) for name in ("low", "middle", "high")],
        {task: Dense(1) for task in "abcd"},
        train=lambda model: seen.append(model.predict(x, verbose=0)),
        validation_data=(x, y),
        errors=lambda model, x, y: errors if len(seen) < 3 else dict.fromkeys("abcd", errors["a"]),
    )
    assert tree == [[["a", "b", "c", "d"]], [["a", "b"], ["c", "d"]], [["a", "b"], ["c", "d"]]]
    assert len(seen) == 3
    for after in seen[1:]:
        for task in "abcd":
            np.testing.assert_allclose(after[task], seen[0][task], rtol=1e-5, atol=1e-6)
    assert model.count_params() == 25 + 2 * 30 + 2 * 30 + 4 * 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": None}, "`train` should be a function"),
        ({"validation_data": np.zeros((2, 3))}, r"a tuple \(x, y\). Received: a ndarray"),
        (
            {"validation_data": (np.zeros((2, 3)), {"a": np.zeros((2, 1))})},
            r"every task of \['a', 'b'\].*labels of \['a'\]",
        ),
        ({"validation_data": (np.zeros((2, 3)), np.zeros((2, 1)))}, "Received: a ndarray"),
        ({"branch_cost": -1.0}, "`branch_cost` should be a finite number, at least 0. Received: branch_cost=-1.0"),
        ({"separation_weight": float("nan")}, "`separation_weight` should be a finite number, at least 0"),
    ],
)
def test_bad_input_is_told_before_anything_is_trained(options, message):
    def train(model):
        raise AssertionError("it was trained")

    labels = {task: np.zeros((2, 1)) for task in "ab"}
    usual = {"train": train, "validation_data": (np.zeros((2, 3)), labels)}
    with pytest.raises(ValueError, match=message):
        branch_by_affinity(keras.Input((3,)), [Dense(2)], {task: Dense(1) for task in "ab"}, **{**usual, **options})
