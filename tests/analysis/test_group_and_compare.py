"""Grouped models and the one call: equal to its parts, resumed after a kill, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.stats import spearmanr

import keras_mtl
from keras_mtl.analysis import (
    GroupedModel,
    Grouping,
    build_groups,
    group_and_compare,
    group_tasks,
    measure_affinity,
    measure_networks,
    representation_similarity,
)

TASKS = ("a", "a_b", "c")


def builder(tasks):
    stages = [layers.Dense(4, activation="tanh", name="low"), layers.Dense(3, activation="tanh", name="high")]
    model = keras_mtl.hard_sharing(keras.Input((4,)), stages, {task: layers.Dense(1) for task in tasks})
    # Without graphs, whose tracing would take most of the time of so many small trainings.
    model.compile(keras.optimizers.SGD(0.05), "mse", metrics={task: ["mae"] for task in tasks}, run_eagerly=True)
    return model


def make_data(count=32, seed=0):
    x = np.random.default_rng(seed).normal(size=(count, 4)).astype("float32")
    return x, {"a": x[:, :1], "a_b": x[:, :1] + 0.1 * x[:, 1:2], "c": x[:, 2:3]}


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    grouping = Grouping([["a", "a_b"], ["a_b", "c"]], serves={"a": 0, "a_b": 1, "c": 1})
    model = build_groups(grouping, builder)
    x, y = make_data()
    history = model.fit(x, y, epochs=2, validation_data=make_data(seed=1), verbose=0, batch_size=16)
    return model, history


def test_a_task_has_the_logs_and_predictions_of_the_network_that_serves_it(trained):
    model, history = trained
    x, y = make_data()
    outputs = model.predict(x, verbose=0)
    assert list(outputs) == ["a", "a_b", "c"]
    np.testing.assert_array_equal(outputs["a_b"], model.networks[1].predict(x, verbose=0)["a_b"])
    assert np.abs(outputs["a_b"] - model.networks[0].predict(x, verbose=0)["a_b"]).max() > 1e-3
    values = model.evaluate(x, y, return_dict=True, verbose=0)
    second = model.networks[1].evaluate(x, {t: y[t] for t in ("a_b", "c")}, return_dict=True, verbose=0)
    assert values["a_b_mae"] == second["a_b_mae"] and values["c_loss"] == second["c_loss"]
    assert values["loss"] == pytest.approx(values["a_loss"] + values["a_b_loss"] + values["c_loss"])
    assert set(history.history) >= {"loss", "val_loss", "a_loss", "val_a_b_mae", "a_weight"}
    assert all(len(series) == 2 for series in history.history.values())


def test_networks_train_as_they_would_by_themselves(trained):
    """The first network of a grouped model, against `fit` of the same network."""
    model, _ = trained
    keras.utils.set_random_seed(0)
    first, second = (builder(list(group)) for group in model.grouping.groups)
    x, y = make_data()
    first.fit(x, {t: y[t] for t in first.tasks}, epochs=2, validation_data=None, verbose=0, batch_size=16)
    for ours, plain in zip(model.networks[0].get_weights(), first.get_weights(), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-6)
    assert second.tasks == ("a_b", "c")


def test_save_and_load(trained, tmp_path):
    model, _ = trained
    x, y = make_data()
    model.save(tmp_path / "groups")
    loaded = GroupedModel.load(tmp_path / "groups")
    for task, output in model.predict(x, verbose=0).items():
        np.testing.assert_allclose(loaded.predict(x, verbose=0)[task], output, atol=1e-6)
    loaded.fit(x, y, verbose=0)


def test_data_sets(trained):
    batches = tf.data.Dataset.from_tensor_slices(make_data()).batch(8)
    model = build_groups([["a"], ["a_b", "c"]], builder)
    model.fit(batches, verbose=0)
    arrays = model.evaluate(*make_data(), return_dict=True, verbose=0)
    assert model.evaluate(batches, return_dict=True, verbose=0) == pytest.approx(arrays, rel=1e-4)


def test_a_fit_that_was_killed_goes_on(tmp_path, monkeypatch):
    x, y = make_data()

    class Kill(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise KeyboardInterrupt

    keras.utils.set_random_seed(1)
    model = build_groups([["a", "a_b"], ["c"]], builder)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0, directory=tmp_path, callbacks=lambda tasks: [Kill()] if "c" in tasks else [])
    again = build_groups([["a", "a_b"], ["c"]], builder)
    history = again.fit(x, y, verbose=0, directory=tmp_path)
    for kept, before in zip(again.networks[0].get_weights(), model.networks[0].get_weights(), strict=True):
        np.testing.assert_array_equal(kept, before)
    assert set(history.history) >= {"loss", "a_loss", "c_loss"}
    whole = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    build_groups([["a", "a_b"], ["c"]], builder).fit(x, y, verbose=0, directory=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")} == whole
    build_groups([["a", "a_b"], ["c"]], builder).fit(x, y, verbose=0, epochs=2, directory=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")} != whole


def run(directory=None, build=builder, **options):
    arguments = {
        "test": make_data(seed=1),
        "metrics": dict.fromkeys(TASKS, "loss"),
        "budget": 2,
        "epochs": 1,
        "seeds": [1],
        "every": 1,
        "progress": False,
        "directory": directory,
    }
    return group_and_compare(build, make_data(), **{**arguments, **options})


def test_one_call(tmp_path):
    scores, grouping, report = run(tmp_path)
    assert grouping.groups == group_tasks(scores, 2).groups
    assert list(report.runs) == ["all together", "chosen groups", "random groups"]
    assert [len(runs) for runs in report.runs.values()] == [1, 1, 1] and len(report.baselines) == 3
    # A run of the report is what its parts give.
    keras.utils.set_random_seed(1)
    model = build_groups(grouping, builder)
    model.fit(*make_data(), verbose=0)
    values = model.evaluate(*make_data(seed=1), return_dict=True, verbose=0)
    assert report.runs["chosen groups"][0]["values"]["c_loss"] == pytest.approx(values["c_loss"], rel=1e-5)
    assert report.runs["chosen groups"][0]["parameters"] == model.count_params()
    # The second call finds everything done.
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs*/*.json")}
    again = run(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs*/*.json")} == files
    np.testing.assert_array_equal(again.scores.values, scores.values)
    assert again.report.delta_m("chosen groups") == report.delta_m("chosen groups")


@pytest.mark.slow  # `test_store_kills.py` kills in quicker places
def test_a_call_that_was_killed_goes_on(tmp_path):
    """Killed again and again: while affinities are measured, in a single-task model, and in a group."""
    begun, left = [], []

    class Kill(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            begun[-1].append(tuple(self.model.tasks))
            left[-1] -= 1
            if left[-1] == 0:
                raise KeyboardInterrupt

    options = {"random_groups": False, "metrics": dict.fromkeys(("a", "c"), "loss")}
    options |= {"scores": "cosine", "alone": -5.0, "overlap": False}
    whole = run(**options)
    for at in (1, 3, 3):
        begun.append([])
        left.append(at)  # not in the callback: with other attributes it is another one
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, callbacks=[Kill()], **options)
    begun.append([])
    left.append(99)
    again = run(tmp_path, callbacks=[Kill()], **options)
    both, a, c = ("a", "c"), ("a",), ("c",)
    assert begun == [[both], [both, a, c], [c, both, both], [both]]  # only what was interrupted begins anew
    assert again.grouping.groups == whole.grouping.groups == (both,)
    for name, runs in whole.report.runs.items():
        assert again.report.runs[name][0]["values"] == pytest.approx(runs[0]["values"], rel=1e-5)


def test_clustering_gets_both_directions_and_progress_is_shown(capsys):
    study = run(method="clustering", random_groups=False, progress=True)
    assert study.grouping.method == "clustering" and study.scores.is_symmetric
    shown = capsys.readouterr().out
    assert "affinity (look_ahead): epoch 1" in shown and "chosen groups, seed 1" in shown and "5/5" in shown


def test_what_cannot_be_grouped_is_refused_before_training():
    def build(tasks):
        raise AssertionError("something is built")

    many = {"metrics": {f"t{k}": "loss" for k in range(15)}}
    for options, words in (
        ({"budget": 0.5}, r"at least 1\. Received: budget=0.5"),
        ({"budget": float("nan")}, "finite"),
        ({"method": "genetic"}, "`method` should be one of"),
        ({"method": "higher_order"}, "scores='look_ahead'. Received: method='higher_order'"),
        ({"method": "branch_and_bound", **many}, "for 15 tasks"),
        ({"scores": "networks", "validation": make_data(), "method": "clustering"}, "scores='networks'"),
        ({"scores": np.full((3, 3), np.nan)}, "should be finite"),
        ({"scores": np.zeros((3, 3)), "budget": 0}, "the cheapest costs 1"),
    ):
        with pytest.raises(ValueError, match=words):
            run(build=build, **options)


@pytest.mark.slow
def test_scores_of_labels_and_of_networks():
    by_labels = run(scores="labels", random_groups=False)
    assert set(by_labels.grouping.groups[0]) == {"a", "a_b"}
    assert list(by_labels.report.runs) == ["all together", "chosen groups"]
    by_networks = run(scores="networks", validation=make_data(seed=2), random_groups=False)
    assert by_networks.grouping.method == "higher_order" and len(by_networks.scores) == 3 + 3


def test_networks_are_measured_as_they_train_by_themselves(tmp_path):
    """Losses relative to the network alone, and the folder of finished ones."""
    options = {"validation": make_data(seed=2), "metrics": {"a": "loss", "c": "mae"}, "epochs": 1, "progress": False}
    networks = measure_networks(builder, make_data(), directory=tmp_path, **options)
    assert [n.tasks for n in networks] == [("a",), ("c",), ("a", "c")] and networks[0].losses == {"a": 1.0}
    values = []
    for tasks in (["a", "c"], ["a"]):
        keras.utils.set_random_seed(0)
        model = builder(tasks)
        for fit, (x, y) in ((True, make_data()), (False, make_data(seed=2))):
            y = {t: y[t] for t in tasks}
            values.append(model.fit(x, y, verbose=0) if fit else model.evaluate(x, y, return_dict=True, verbose=0))
    expected = values[1]["a_loss"] / values[3]["a_loss"]
    assert networks[2].losses["a"] == pytest.approx(expected, rel=1e-4)
    assert group_tasks(networks, 1, method="higher_order").groups == (("a", "c"),)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    again = measure_networks(builder, make_data(), directory=tmp_path, **options)  # built, not trained
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")} == files
    assert [n.losses for n in again] == [n.losses for n in networks]


@pytest.mark.oracle
def test_similarity_of_features_is_that_of_scipy():
    stages = [layers.Dense(4, activation="tanh", name="low"), layers.Dense(3, activation="tanh", name="high")]
    heads = {task: layers.Dense(1) for task in "abc"}
    model = keras_mtl.hard_sharing(keras.Input((4,)), stages, heads, shared_depth=0)
    for stage in ("low", "high"):
        model.get_layer(f"b_{stage}").set_weights(model.get_layer(f"a_{stage}").get_weights())
    x = make_data(20)[0]
    found = representation_similarity(model, x)
    assert list(found) == ["low", "high"] and found["high"].of("a", "b") == pytest.approx(1.0)
    rows = []
    for task in "ac":
        features = keras.Model(model.input, model.get_layer(f"{task}_high").output).predict(x, verbose=0)
        rows.append((1 - np.corrcoef(features.astype("float64")))[np.triu_indices(20, 1)])
    assert found["high"].of("a", "c") == pytest.approx(spearmanr(*rows).statistic, abs=1e-3)
    named = representation_similarity(model, x, stages={"a": ["a_high"], "c": ["c_high"]})
    assert named["high"].of("a", "c") == pytest.approx(found["high"].of("a", "c"))


def test_affinity_by_features():
    singles = build_groups([[task] for task in TASKS], builder)
    affinity = measure_affinity(singles, make_data(), method="representation", epochs=1, progress=False)
    assert affinity.is_symmetric and np.diag(affinity.values) == pytest.approx(1.0)


def test_bad_input():
    x, y = make_data()
    with pytest.raises(ValueError, match=r"of the tasks it is given, \['a'\]"):
        build_groups([["a"]], lambda tasks: builder(["c"]))
    with pytest.raises(ValueError, match="compiled"):
        build_groups([["a"]], lambda tasks: keras.Sequential())
    with pytest.raises(ValueError, match="`scores`"):
        run(scores="guess")
    with pytest.raises(ValueError, match="`validation`"):
        run(scores="networks")
    with pytest.raises(ValueError, match="columns that share nothing"):
        measure_affinity(builder(list(TASKS)), (x, y), method="representation", progress=False)
    with pytest.raises(ValueError, match="`method`"):
        measure_affinity(builder(list(TASKS)), (x, y), method="guess")
    with pytest.raises(ValueError, match="networks of one task"):
        measure_networks(builder, (x, y), validation=(x, y), metrics=dict.fromkeys(TASKS, "loss"), sizes=[2])
    with pytest.raises(ValueError, match="`stages`"):
        representation_similarity(builder(list(TASKS)), x, stages={"a": [], "c": []})
