"""What is seen in data before a training, and which settings are refused."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_mtl.analysis.advice._look import label_counts, look
from keras_mtl.analysis.advice._problem import Candidate, Problem
from keras_mtl.analysis.advice._widths import fit_width, trunk_parameters


def make_problem(x, y, test=None, **options):
    arguments = {
        "validation": None,
        "compile": {"loss": "mse", "missing": "nan"},
        "metrics": dict.fromkeys(y, "loss"),
        "directions": None,
        "batch_size": 10,
        "standardize": False,
    }
    data = {"train": (x, y), "test": (x + 1000, y) if test is None else test}
    heads = {task: layers.Dense(1) for task in y}
    stages = [layers.Dense(6, activation="relu"), layers.Dense(4, activation="relu")]
    return Problem(keras.Input(x.shape[1:]), stages, heads, **{**arguments, **data, **options})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def found(problem):
    return {finding.kind: finding for finding in look(problem)}


def test_scales_few_labels_and_relations(rng):
    x = rng.normal(size=(200, 3)).astype("float32")
    a = rng.normal(size=(200, 1))
    y = {"a": 100 * a, "b": a + 0.1 * rng.normal(size=(200, 1)), "c": rng.normal(size=(200, 1))}
    y["c"][10:] = np.nan
    problem = make_problem(x, y)
    seen = found(problem)
    assert seen["scales"].tasks == ("a", "b", "c") and "standardize=True" in seen["scales"].text
    deviations = {task: np.nanstd(problem.train[1][task]) for task in y}
    assert seen["scales"].numbers["deviations"] == pytest.approx(deviations)
    assert seen["few labels"].tasks == ("c",)
    assert label_counts(problem)["c"] == seen["few labels"].numbers["labels"] == 10
    assert set(seen["related labels"].tasks) == {"a", "b"} and seen["related labels"].numbers["association"] > 0.9


@pytest.mark.parametrize(("labelled", "few"), [(20, True), (21, False)])
def test_a_tenth_of_the_labels_is_few_whatever_is_held_out(rng, labelled, few):
    y = {task: rng.normal(size=(200, 1)) for task in "ab"}
    y["b"][labelled:] = np.nan
    problem = make_problem(rng.normal(size=(200, 3)), y)
    assert ("few labels" in found(problem)) == few and label_counts(problem) == {"a": 200, "b": labelled}


def test_nothing_to_say_of_plain_labels(rng):
    x, y = rng.normal(size=(400, 3)), {task: rng.normal(size=(400, 1)) for task in "ab"}
    assert not found(make_problem(x, y))


def test_imbalance(rng):
    x = rng.normal(size=(400, 3))
    y = {"a": (np.arange(400) % 40 == 0).astype("int32"), "b": rng.integers(0, 2, 400)}
    seen = found(make_problem(x, y, compile={"loss": "binary_crossentropy"}))
    assert seen["imbalance"].tasks == ("a",)
    assert seen["imbalance"].numbers["rarest"] == pytest.approx(1 / 40, abs=0.01)


def test_test_examples_that_were_trained_on(rng):
    x = rng.normal(size=(50, 3)).astype("float32")
    y = {task: rng.normal(size=(50, 1)) for task in "ab"}
    fresh = rng.normal(size=(20, 3)).astype("float32")
    test = (np.concatenate([x[:7], fresh]), {task: labels[:27] for task, labels in y.items()})
    overlap = found(make_problem(x, y, test))["overlap"]
    assert overlap.numbers == {"test": 7} and "7 of the 27 test" in overlap.text


def test_standardized_labels(rng):
    x = rng.normal(size=(100, 3))
    y = {"a": 5 + 300 * rng.normal(size=(100, 1)), "b": rng.integers(0, 2, (100, 1)).astype("float32")}
    y["a"][:20] = np.nan
    problem = make_problem(x, y, standardize=True)
    known = problem.known(problem.train[1], "a")
    assert list(problem.scales) == ["a"]  # 0 and 1 are classes
    assert np.mean(problem.train[1]["a"][known]) == pytest.approx(0, abs=1e-5)
    assert np.std(problem.train[1]["a"][known]) == pytest.approx(1, abs=1e-5)
    assert np.isnan(problem.all_training[1]["a"]).sum() == 20
    mean, deviation = problem.scales["a"]
    np.testing.assert_allclose(problem.test[1]["a"][20:] * deviation + mean, y["a"][20:], rtol=1e-3)
    assert "standardized" in found(problem) and "scales" not in found(problem)


def test_validation_is_split_off_and_comes_back(rng):
    x, y = rng.normal(size=(50, 3)), {task: rng.normal(size=(50, 1)) for task in "ab"}
    problem = make_problem(x, y)
    assert len(problem.train[0]) == 40 and len(problem.validation[0]) == 10 and len(problem.all_training[0]) == 50
    rows = np.concatenate([problem.train[0], problem.validation[0]])
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(x, axis=0))


def test_each_seed_holds_out_others_with_labels_of_every_task(rng):
    x, y = rng.normal(size=(50, 3)), {task: rng.normal(size=(50, 1)) for task in "ab"}
    y["b"][4:] = np.nan  # four labels, of which a fifth at random has none four times of ten
    problem = make_problem(x, y)
    splits = [problem.split(seed) for seed in range(10)]
    assert len({tuple(rows) for _, rows in splits}) == 10
    for train, rows in splits:
        assert sorted([*train, *rows]) == list(range(50)) and len(rows) == 10
        assert (rows < 4).any() and (train < 4).any()
    np.testing.assert_array_equal(problem.split(3)[1], make_problem(x, y).split(3)[1])
    np.testing.assert_array_equal(problem.validation[0], x[splits[0][1]])


def test_widths_are_fitted_to_a_budget(rng):
    problem = make_problem(rng.normal(size=(20, 10)), {task: rng.normal(size=(20, 1)) for task in "abc"})
    for options in ({"shared_depth": 0}, {"shared_depth": 1}, {}):
        candidate = fit_width(problem, Candidate("one", "", options=options), 2000)
        assert 1800 <= trunk_parameters(problem.build(candidate), problem.heads) <= 2000
    with pytest.raises(ValueError, match="within reach"):
        fit_width(problem, Candidate("one", ""), 3)
    # By hand, one column with its widths given: 10 * 6 + 6 + 6 * 4 + 4.
    alone = problem.build(Candidate("nothing shared", "", options={"shared_depth": 0}))
    assert trunk_parameters(alone, problem.heads) == 3 * 94


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": {"a": "profit"}}, "directions"),
        ({"metrics": {"z": "loss"}}, "tasks of `heads`"),
        ({"metrics": {"a": "loss"}, "compile": {"loss": "mse", "lr": 1}}, "lr"),
        ({"compile": {"optimizer": "adam"}}, "with `loss`"),
        ({"train": (np.ones((5, 3)), {"a": np.ones((5, 1))})}, "none of \\['b'\\]"),
        ({"train": (np.ones((5, 3)), {"a": np.ones((5, 1)), "b": np.ones((4, 1))})}, "as many labels"),
        ({"test": np.ones((5, 3))}, "`test` should be a tuple"),
        ({"test": (np.ones((5, 3)), {t: np.full((5, 1), np.nan) for t in "ab"})}, "'a' should have labels in the test"),
    ],
)
def test_bad_input(rng, change, words):
    y = {task: rng.normal(size=(20, 1)) for task in "ab"}
    with pytest.raises(ValueError, match=words):
        make_problem(rng.normal(size=(20, 3)), y, **change)


def test_one_task_and_heads_that_do_not_fit(rng):
    x, y = rng.normal(size=(20, 3)), {task: rng.normal(size=(20, 1)) for task in "ab"}
    with pytest.raises(ValueError, match="two tasks or more"):
        make_problem(x, {"a": y["a"]})
    given = {"train": (x, y), "validation": None, "test": (x, y), "compile": {"loss": "mse"}, "metrics": {"a": "loss"}}
    given |= {"directions": None, "batch_size": 10, "standardize": False}
    heads = {"a": layers.Dense(1), "b": layers.Conv2D(1, 3)}
    with pytest.raises(ValueError, match="task 'b'"):
        Problem(keras.Input((3,)), [layers.Dense(4)], heads, **given)
