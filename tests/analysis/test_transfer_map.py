"""Transfers that are trained: planted groups, numbers that NumPy gives too, resuming, what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.analysis import ahp, transfer_map, win_rates

GROUPS = (("a1", "a2", "a3"), ("b1", "b2", "b3"))
TASKS = [task for group in GROUPS for task in group]


def builder(tasks):
    stages = [layers.Dense(24, activation="tanh"), layers.Dense(6, activation="tanh")]
    model = keras_mtl.hard_sharing(keras.Input((12,)), stages, {task: layers.Dense(1) for task in tasks})
    model.compile(keras.optimizers.Adam(0.01), loss="mse", steps_per_execution=10)
    return model


def eager(tasks):
    """Without graphs, whose tracing would take most of the time of so many trainings of one step."""
    model = builder(tasks)
    model.compile("sgd", loss="mse", run_eagerly=True)
    return model


def make_data(count, seed, tasks=TASKS):
    """Tasks of a group are sums of the same three features."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, 12)).astype("float32"), {}
    planted = np.random.default_rng(99)
    for group in GROUPS:
        features = np.tanh(2 * x @ np.linalg.qr(planted.normal(size=(12, 3)))[0])
        for i, task in enumerate(group):
            y[task] = (features[:, i] + features[:, (i + 1) % 3])[:, None].astype("float32")
    return x, {task: y[task] for task in tasks}


def small(directory=None, **options):
    tasks = ["a1", "a2", "b1"]
    arguments = {
        "validation": make_data(40, 1, tasks),
        "tasks": tasks,
        "fraction": 0.5,
        "epochs": 1,
        "transfer_epochs": 1,
    }
    arguments |= {"max_sources": 2, "beam": 2, "directory": directory, "progress": False}
    return transfer_map(eager, make_data(64, 0, tasks), **{**arguments, **options})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfers")
    return folder, small(folder)


def test_every_transfer_is_there(found):
    _, transfers = found
    assert len(transfers.affinities) == 9 + 3
    for target in transfers.tasks:
        of_target = [p for (_, t), p in transfers.affinities.items() if t == target]
        assert sum(of_target) == pytest.approx(1.0)
    assert np.isfinite(transfers.affinity().values).all()
    assert set(transfers.plan(1, max_sources=1).transfers) == set(transfers.tasks)


def test_finished_transfers_are_used_again(found):
    folder, transfers = found
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert len(files) == 3 + 12
    assert small(folder).affinities == pytest.approx(transfers.affinities)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")} == files


def test_affinities_are_those_of_the_losses(found):
    import json

    folder, transfers = found
    runs = {}
    for path in folder.glob("*.json"):
        runs[path.name.split("-to-")[0], path.name.split("-to-")[1][:2]] = json.loads(path.read_text())["losses"]
    names = sorted(source for source, target in runs if target == "a1")
    values = ahp(win_rates([runs[name, "a1"] for name in names]))
    for name, value in zip(names, values, strict=True):
        assert transfers.affinities[tuple(name.split("-")), "a1"] == pytest.approx(value)
        assert transfers.losses[tuple(name.split("-")), "a1"] == pytest.approx(np.mean(runs[name, "a1"]))


def test_bad_input():
    data = make_data(8, 0)
    for options, words in (
        ({"tasks": ["a1"]}, "two different tasks"),
        ({"fraction": 0.0}, "`fraction`"),
        ({"max_sources": 0}, "`max_sources` should be an integer"),
        ({"max_sources": 3, "beam": 2}, "at most `beam`"),
    ):
        with pytest.raises(ValueError, match=words):
            transfer_map(builder, data, **{"validation": data, "tasks": TASKS, "progress": False, **options})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_source_of_each_planted_group_is_chosen(seed):
    """Two sources for six targets: readouts from 2 percent of the examples."""
    transfers = transfer_map(
        builder, make_data(2000, seed), validation=make_data(500, 50 + seed), tasks=TASKS, fraction=0.02, epochs=20,
        transfer_epochs=100, seed=seed, progress=False,
    )  # fmt: skip
    policy = transfers.plan(2)
    assert {source[0] for source in policy.sources} == {"a", "b"}
    assert all(policy.transfers[task][0][0] == task[0] for task in TASKS)
