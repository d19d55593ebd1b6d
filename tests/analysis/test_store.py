"""Kept runs: what is read, what is trained, what damage does, and names that look like markup."""

import errno
import json
import os
import pathlib
import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.analysis import Affinity, GroupedModel, Grouping, build_groups, compare, measure_affinity, transfer_map
from keras_mtl.analysis import _store as store
from tests.rows import by_default


def build(units=3, rate=0.1, **options):
    heads = {"a": layers.Dense(1), "b": layers.Dense(1)}
    model = keras_mtl.hard_sharing(keras.Input((3,)), [layers.Dense(units, activation="tanh")], heads, **options)
    model.compile(keras.optimizers.SGD(rate), loss="mse", run_eagerly=True)
    return model


def make_data(count=24):
    x = np.random.default_rng(0).normal(size=(count, 3)).astype("float32")
    return x, {"a": x[:, :1], "b": x[:, 1:2] ** 2}


KNOWN = {"a": {"loss": 1.0}, "b": {"loss": 1.0}}


class Trainings(keras.callbacks.Callback):
    """How many trainings there were."""

    counted: typing.ClassVar = []

    def on_train_begin(self, logs=None):
        self.counted.append(self.model.name)


def run(directory, candidates=None, **options):
    """A comparison, and how many trainings it took."""
    Trainings.counted.clear()
    arguments = {"metrics": {"a": "loss", "b": "loss"}, "test": make_data(8), "epochs": 1, "seeds": 1}
    arguments["baselines"] = KNOWN
    arguments |= {"data": make_data(), "callbacks": [Trainings()], "progress": False, "directory": directory}
    report = compare(candidates or {"small": build}, **{**arguments, **options})
    return report, len(Trainings.counted)


def same(first, second):
    means = [report.baseline_means for report in (first, second)]
    return means[0] == means[1] and all(first.delta_m(n) == second.delta_m(n) for n in first.runs)


def test_runs_of_any_settings_lie_side_by_side(tmp_path):
    """What differs is trained, what was there before is read again, whatever came between."""
    first, trained = run(tmp_path)
    assert trained == 1 and first.origin == f"0 runs read from {str(tmp_path)!r}, 1 trained."
    changes = [
        {"epochs": 2},
        {"batch_size": 8},
        {"shuffle": False},
        {"seeds": [1]},
        {"callbacks": [Trainings(), keras.callbacks.EarlyStopping("loss", patience=3)]},
        {"data": make_data(16)},
        {"test": make_data(9)},
        {"validation": make_data(9)},
        {"candidates": {"small": lambda: build(rate=0.2)}},
        {"candidates": {"small": lambda: build(units=4)}},
    ]
    for change in changes:
        assert run(tmp_path, **change)[1] == 1, change
    for change in changes:
        assert run(tmp_path, **change)[1] == 0, change
    again, trained = run(tmp_path)
    assert trained == 0 and same(again, first)
    assert str(again).endswith(f"1 runs read from {str(tmp_path)!r}, 0 trained.")


def test_names_and_order_and_metrics_are_no_settings(tmp_path):
    small, large = (lambda: build(3)), (lambda: build(5))
    options = {"baselines": "single_task", "metrics": {"a": "loss"}}
    run(tmp_path, {"small": small, "large": large}, **options)
    turned, trained = run(tmp_path, {"large": large, "small": small}, **options)
    assert trained == 1  # the single-task model of the one that is first now
    assert same(turned, run(None, {"large": large, "small": small}, **options)[0])
    renamed, trained = run(tmp_path, {"S": small}, metrics={"b": "loss"})
    assert trained == 0 and same(renamed, run(None, {"S": small}, metrics={"b": "loss"})[0])


def test_other_baselines_are_other_runs(tmp_path):
    run(tmp_path, baselines="single_task", metrics={"a": "loss"})
    columns = {"baselines": lambda: build(6, shared_depth=0), "metrics": {"a": "loss"}}
    kept, trained = run(tmp_path, **columns)
    assert trained == 1 and same(kept, run(None, **columns)[0])


class Batches(keras.utils.PyDataset):
    """Eight examples a batch."""

    def __init__(self, count=24):
        super().__init__()
        self.x, self.y = make_data(count)

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, index):
        part = slice(8 * index, 8 * index + 8)
        return self.x[part], {task: labels[part] for task, labels in self.y.items()}


def test_py_data_sets_are_what_fit_takes(tmp_path):
    plain = run(None, batch_size=8, shuffle=False, metrics={"a": "loss"}, baselines="single_task")[0]
    options = {"data": Batches(), "test": Batches(8), "metrics": {"a": "loss"}, "baselines": "single_task"}
    options["shuffle"] = False
    batches, trained = run(tmp_path, **options)
    assert trained == 2 and batches.delta_m("small") == pytest.approx(plain.delta_m("small"), rel=1e-4)
    assert run(tmp_path, **options | {"data": Batches()})[1] == 0
    assert run(tmp_path, **options | {"data": Batches(16)})[1] == 2
    with pytest.raises(ValueError, match=r"for each training anew. Received: a generator"):
        run(None, data=(batch for batch in Batches()), baselines="single_task")


def test_a_lambda_is_named_once(tmp_path):
    for rate in (lambda epoch: 0.0, lambda epoch: 0.1):
        callbacks = [Trainings(), keras.callbacks.LearningRateScheduler(rate)]
        with pytest.warns(UserWarning, match=r"callbacks'\]\[1\].schedule: a lambda") as caught:
            _, trained = run(tmp_path, callbacks=callbacks, seeds=2)
        assert trained == 2 and sum("lambda" in str(warning.message) for warning in caught) == 1


DAMAGE = {
    "empty": b"",
    "truncated": None,
    "garbage": bytes(range(128, 192)),
    "null": b"null",
    "no fields": b"{}",
    "list": b"[1, 2]",
}


@pytest.mark.parametrize("name", by_default(["truncated", "no fields"], DAMAGE))
def test_damaged_runs_are_made_anew(tmp_path, name):
    content = DAMAGE[name]
    first, _ = run(tmp_path)
    (file,) = tmp_path.glob("small-seed0-*.json")
    file.write_bytes(file.read_bytes()[:50] if content is None else content)
    with pytest.warns(UserWarning, match=f"{file.name}' cannot be used, and its run is made anew"):
        again, trained = run(tmp_path)
    assert trained == 1 and same(again, first)
    assert run(tmp_path)[1] == 0


@pytest.mark.parametrize("field", [{"values": {}}, {"values": {"a_loss": "1"}}, {"curves": {"loss": 3}}], ids=str)
def test_runs_of_which_something_is_missing_are_made_anew(tmp_path, field):
    first, _ = run(tmp_path)
    (file,) = tmp_path.glob("small-seed0-*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **field}))
    with pytest.warns(UserWarning, match=f"{file.name}' cannot be used, and its run is made anew: it"):
        again, trained = run(tmp_path)
    assert trained == 1 and same(again, first)
    with pytest.raises(ValueError, match="`candidates` should be a dict from names"):
        run(tmp_path, {1: build})


def test_parts_that_kills_have_left_go_after_a_day(tmp_path):
    old, new, other = (
        tmp_path / name for name in (f".{'0' * 16}.json", f".{'1' * 16}.weights.h5", f".{'2' * 16}.keras")
    )
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (1e9, 1e9))
    run(tmp_path)
    assert [path.exists() for path in (old, new, other)] == [False, True, True]


def test_another_runs_file_is_not_taken(tmp_path):
    first, _ = run(tmp_path, seeds=2)
    (a,), (b,) = (list(tmp_path.glob(f"small-seed{seed}-*.json")) for seed in range(2))
    a.write_bytes(b.read_bytes())
    with pytest.warns(UserWarning, match="it is of another run"):
        again, trained = run(tmp_path, seeds=2)
    assert trained == 1 and same(again, first)


NAMES = ["lr[/x]", "[red]a", "single-task a", "x/../y", ":x:", "a|b", "n" * 300]


def test_names_are_shown_as_they_are(tmp_path):
    candidates = {name: lambda units=units: build(units) for units, name in enumerate(NAMES, 2)}
    options = {"baselines": "single_task", "metrics": {"a": "loss"}}
    report, trained = run(tmp_path, candidates, **options)
    assert trained == 1 + len(NAMES) and run(tmp_path, candidates, **options)[1] == 0
    text = str(report)
    for name in NAMES:
        assert f"│ {name} " in text and report.runs[name] and f"\n{name}: " in text
    assert "| a\\|b |" in report.to_markdown()
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path}
    tasks = ["[red]", "[/b]"]
    assert "[/b]" in str(Affinity(tasks, np.zeros((2, 2)))) and "[red]" in str(Grouping([tasks]))


def test_progress_shows_names_as_they_are(capsys):
    run(None, {"lr[/x]": build}, metrics={"a": "loss"}, progress=True)
    assert "compare: lr[/x], seed 0" in capsys.readouterr().out


def groups_builder(tasks):
    heads = {task: layers.Dense(1) for task in tasks}
    model = keras_mtl.hard_sharing(keras.Input((3,)), [layers.Dense(3, activation="tanh")], heads)
    model.compile("sgd", loss="mse", run_eagerly=True)
    return model


def fit_groups(directory, seed=0, **options):
    Trainings.counted.clear()
    keras.utils.set_random_seed(seed)
    model = build_groups([["a"], ["b"]], groups_builder)
    arguments = {"callbacks": [Trainings()], "verbose": 0, "directory": directory}
    history = model.fit(*make_data(), **{**arguments, **options})
    return [w for network in model.networks for w in network.get_weights()], history.history, len(Trainings.counted)


def test_networks_of_a_grouping_come_back_with_their_weights(tmp_path):
    weights, history, trained = fit_groups(tmp_path)
    assert trained == 2 and fit_groups(tmp_path, seed=1)[2] == 2 and fit_groups(tmp_path, epochs=2)[2] == 2
    again, history_again, trained = fit_groups(tmp_path)
    assert trained == 0 and history_again == history
    for kept, made in zip(again, weights, strict=True):
        np.testing.assert_array_equal(kept, made)


@pytest.mark.parametrize(
    ("which", "damage"),
    by_default(
        [("*.json", "truncated"), ("*.weights.h5", "garbage")],
        [(which, damage) for which in ("*.json", "*.weights.h5") for damage in ("truncated", "garbage", "gone")],
    ),
)
def test_networks_whose_files_are_damaged_are_trained_anew(tmp_path, which, damage):
    weights, *_ = fit_groups(tmp_path)
    file = sorted(tmp_path.glob(which))[0]
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "truncated" else content[:-9] + b"123456789")
    if which == "*.json" and damage == "gone":
        again, _, trained = fit_groups(tmp_path)
    else:
        with pytest.warns(UserWarning, match=f"network0.*{'weights' if which != '*.json' else 'damaged'}"):
            again, _, trained = fit_groups(tmp_path)
    assert trained == 1
    for kept, made in zip(again, weights, strict=True):
        np.testing.assert_array_equal(kept, made)
    assert fit_groups(tmp_path)[2] == 0 and len(list(tmp_path.iterdir())) == 4  # nothing old is left


def test_a_kill_between_weights_and_record_leaves_the_network_as_it_was(tmp_path, monkeypatch):

    before, *_ = fit_groups(tmp_path)
    record = sorted(tmp_path.glob("network0*.json"))[0]
    content = record.read_bytes()
    record.write_bytes(b"")

    def dies(path):
        if str(path).endswith(".json"):
            raise KeyboardInterrupt
        return whole_file(path)

    whole_file = store.whole_file
    monkeypatch.setattr(store, "whole_file", dies)
    with pytest.warns(UserWarning, match="network0"), pytest.raises(KeyboardInterrupt):
        fit_groups(tmp_path)
    monkeypatch.undo()
    record.write_bytes(content)  # the record of before is one with the weights of before
    after, _, trained = fit_groups(tmp_path)
    assert trained == 0
    for kept, made in zip(after, before, strict=True):
        np.testing.assert_array_equal(kept, made)


def test_a_saved_grouped_model_is_whole_or_says_what_is_not(tmp_path):
    model = build_groups([["a"], ["b"]], groups_builder)
    model.save(tmp_path / "m")
    (tmp_path / "m" / "network1.keras").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a saved network. Received: .*network1.keras"):
        GroupedModel.load(tmp_path / "m")
    (tmp_path / "m" / "grouping.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a grouping. Received: .*grouping.json.*no `groups`"):
        GroupedModel.load(tmp_path / "m")
    (tmp_path / "m" / "grouping.json").unlink()
    with pytest.raises(ValueError, match="written to the end"):
        GroupedModel.load(tmp_path / "m")
    (tmp_path / "affinity.json").write_text('{"affinity": {"a"')
    with pytest.raises(ValueError, match=r"affinities. Received: .*affinity.json', it is damaged"):
        Affinity.load(tmp_path / "affinity.json")


def test_a_full_disk_leaves_no_weights_without_their_record(tmp_path, monkeypatch):
    def full(path, *args, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            fit_groups(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fit_groups(tmp_path)[2] == 2


@pytest.mark.parametrize(
    "history",
    by_default([{"loss": [1.0], "a_loss": []}], [{}, {"loss": 1.0}, {"loss": [1.0], "a_loss": []}, {"loss": ["x"]}]),
    ids=str,
)
def test_networks_whose_history_is_damaged_are_trained_anew(tmp_path, history):
    fit_groups(tmp_path)
    file = sorted(tmp_path.glob("network0*.json"))[0]
    file.write_text(json.dumps({**json.loads(file.read_text()), "history": history}))
    with pytest.warns(UserWarning, match="network0.*made anew"):
        assert fit_groups(tmp_path)[2] == 1


def test_affinities_are_kept_by_their_settings(tmp_path):
    def measure(**options):
        Trainings.counted.clear()
        keras.utils.set_random_seed(0)
        arguments = {"epochs": 1, "every": 1, "progress": False, "directory": tmp_path, "callbacks": [Trainings()]}
        affinity = measure_affinity(build(), make_data(), **{**arguments, **options})
        return affinity.values, len(Trainings.counted)

    values, trained = measure()
    assert trained == 1
    for change in ({"method": "cosine"}, {"batch_size": 8}):
        assert measure(**change)[1] == 1, change
    again, trained = measure()
    assert trained == 0
    for file in tmp_path.glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "values": {"affinity": {"a": 1}}}))
    with pytest.warns(UserWarning, match="affinity-look.*made anew"):
        assert measure()[1] == 1
    np.testing.assert_array_equal(again, values)


@pytest.mark.slow
def test_transfers_of_another_seed_are_others(tmp_path, capsys):
    def found(seed, directory, **options):
        return transfer_map(
            groups_builder, make_data(), validation=make_data(8), tasks=["a", "b"], fraction=0.5, epochs=1,
            transfer_epochs=1, seed=seed, directory=directory, **options,
        ).losses  # fmt: skip

    first, other = found(0, tmp_path, progress=False), found(1, tmp_path, progress=False)
    assert first != other and other == found(1, None, progress=False)
    capsys.readouterr()
    assert found(0, tmp_path) == first
    assert "4 runs read" in capsys.readouterr().out.replace("\n", " ")


def test_tf_data_is_told_apart(tmp_path):
    def batches(count):
        return tf.data.Dataset.from_tensor_slices(make_data(count)).batch(8)

    assert [run(tmp_path, data=batches(count))[1] for count in (24, 16, 24)] == [1, 1, 0]


def test_records_say_what_they_are(tmp_path):
    run(tmp_path)
    (file,) = tmp_path.glob("small-*.json")
    record = json.loads(file.read_text())
    assert record["label"] == "small-seed0" and file.name == f"small-seed0-{record['key']}.json"
