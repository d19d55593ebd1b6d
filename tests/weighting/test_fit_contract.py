"""What every weighting owes to `compile` and `fit`: one small conflicting problem, one row a method.

Tracing is what costs here, so each method is trained once (`record`), and every test looks at what that left behind.
"""

import functools

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl import weighting as W
from tests.rows import by_default

TASKS = ("a", "b", "c")
BATCH = 8
# Options that make a method move within a few steps of SGD, or repeatable.
OPTIONS = {
    "excess": {"learning_rate": 0.5},
    "graddrop": {"seed": 0},
    "gradnorm": {"learning_rate": 0.2},
    "gradvac": {"seed": 0},
    "modo": {"learning_rate": 1.0},
    "pcgrad": {"seed": 0},
    "random": {"seed": 0},
    "relobralo": {"seed": 0, "alpha": 0.5, "rho": 0.5},
    "stch": {"warmup_epochs": 0},
}
SEQUENCE = "uncertainty, pcgrad"
NAMES = [*W.names(), SEQUENCE]
SAME_AS_EQUAL = {"equal": "it is the one compared with"}


def make_weighting(name, **options):
    if name == SEQUENCE:
        return W.Sequential([W.Uncertainty(), W.PCGrad(seed=0, **options)])
    return type(W.get(name))(**OPTIONS.get(name, {}), **options)


def make_data():
    """Three batches of three two-class tasks; `b` contradicts `a`, and is absent from the second batch."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3 * BATCH, 4)).astype("float32")
    a = (x[:, :1] + 0.5 * x[:, 1:2] > 0).astype("float32")
    b = (x[:, :1] + 0.3 * x[:, 2:3] < 0).astype("float32")
    c = (x[:, 3:] > 0).astype("float32")
    b[BATCH : 2 * BATCH] = np.nan
    return x, {"a": a, "b": b, "c": c}


X, Y = make_data()


def make_model(weighting, **options):
    keras.utils.set_random_seed(3)
    dense = keras.layers.Dense
    model = keras_mtl.hard_sharing(
        keras.Input((4,)),
        [dense(3, activation="tanh")],
        {task: dense(1, activation="sigmoid") for task in TASKS},
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=dict.fromkeys(TASKS, "binary_crossentropy"),
        loss_weights={"b": 2.0},
        metrics={task: ["accuracy"] for task in TASKS} if isinstance(weighting, W.DTP) else None,
        weighting=weighting,
        missing={"b": "nan"},
        **{"jit_compile": False, **options},
    )
    return model


def fit(model, epochs=1, part=slice(None)):
    labels = {task: y[part] for task, y in Y.items()}
    return model.fit(X[part], labels, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0).history


def values(variables):
    return [np.array(v) for v in variables]


def shared(model):
    return np.concatenate([np.array(v).ravel() for v in model.shared_variables])


@functools.cache
def record(name, folder):
    """Trains two epochs and a short one, this again from what was saved before it, and one without task `b`."""
    model = make_model(make_weighting(name))
    found = {"start": values(model.trainable_variables)}
    start = shared(model)
    found["first"] = fit(model, epochs=2)
    found["paths"] = [v.path for v in model.trainable_variables]
    path = folder / "model.keras"
    model.save(path)
    found["second"] = fit(model, part=slice(2 * BATCH))
    found["end"] = values(model.trainable_variables)
    found["moved"] = shared(model) - start
    found["state"] = values([*model.optimizer.variables, *model.weighting.variables])

    # Loaded models take their steps one by one, so that this is eager against graph too, and nothing is traced, but one
    # that has a learned state.
    again = keras.models.load_model(path)
    again.run_eagerly = name != "uncertainty"
    found["second again"] = fit(again, part=slice(2 * BATCH))
    found["end again"] = values(again.trainable_variables)
    found["state again"] = values([*again.optimizer.variables, *again.weighting.variables])

    own = values(model.task_variables("b"))
    with pytest.warns(UserWarning, match="Task 'b' had no labelled example"):
        found["absent"] = fit(model, part=slice(BATCH, 2 * BATCH))
    found["own moved"] = [np.abs(a - b).max() for a, b in zip(own, values(model.task_variables("b")), strict=True)]
    found["end absent"] = values(model.trainable_variables)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    yield tmp_path_factory.mktemp("contract")
    record.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_trains_and_logs_task_weights(name, folder):
    found = record(name, folder)
    for history in (found["first"], found["second"]):
        for task in TASKS:
            assert np.all(np.isfinite(history[f"{task}_weight"]))
            assert np.all(np.isfinite(history[f"{task}_loss"]))
    seen = make_weighting(name).requires != "losses"
    assert ("grad_cosine" in found["first"]) == seen
    assert ("a_grad_norm" in found["first"]) == seen


@pytest.mark.parametrize("name", NAMES)
def test_every_trainable_variable_moves(name, folder):
    found = record(name, folder)
    still = [
        path for path, a, b in zip(found["paths"], found["start"], found["end"], strict=True) if np.array_equal(a, b)
    ]
    assert not still


@pytest.mark.parametrize("name", NAMES)
def test_direction_differs_from_equal_weighting(name, folder):
    """Not only its length, which is the learning rate's business."""
    moved, equal = (record(n, folder)["moved"] for n in (name, "equal"))
    difference = np.linalg.norm(moved / np.linalg.norm(moved) - equal / np.linalg.norm(equal))
    if name in SAME_AS_EQUAL:
        assert difference == 0
    else:
        assert difference > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_save_load_fit_equals_uninterrupted_fit(name, folder):
    found = record(name, folder)
    for key in ("end", "state"):
        for a, b in zip(found[key], found[f"{key} again"], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for log, expected in found["second"].items():
        np.testing.assert_allclose(found["second again"][log], expected, rtol=1e-4, atol=1e-6, err_msg=log)


@pytest.mark.parametrize("name", NAMES)
def test_absent_task_has_no_weight_and_its_head_rests(name, folder):
    found = record(name, folder)
    assert (
        found["absent"]["b_weight"] == [0.0] and np.isnan(found["absent"]["b_loss"]).all()
    )  # no loss, not a perfect one
    assert max(found["own moved"]) == 0
    assert all(np.all(np.isfinite(v)) for v in found["end absent"])
    assert found["absent"]["a_weight"][0] != 0


def test_the_problem_has_conflicts():
    model = make_model("mgda", diagnostics=True, run_eagerly=True)
    assert fit(model)["conflict_rate"][0] > 0.2


GRAMIAN = [name for name in W.names() if W.get(name).requires == "gramian"]
# Without a state, and with each kind of state that must not move between solutions; the rest is the base class's.
FEW = ["mgda", "dualproj", "nash", "gradvac", "gradnorm", SEQUENCE]


@pytest.mark.parametrize("name", by_default(FEW, [*GRAMIAN, SEQUENCE]))
def test_every_third_step_solves(name):
    """The weights of a step hold for the two after it, and then move on."""
    model = make_model(make_weighting(name, every=3), run_eagerly=True)
    batch = X[-BATCH:], {task: y[-BATCH:] for task, y in Y.items()}
    weights = []
    for _ in range(5):
        model.reset_metrics()
        logs = model.train_on_batch(*batch, return_dict=True)
        weights.append([logs[f"{task}_weight"] for task in TASKS])
    assert not [v.path for v in model.weighting.variables if v.dtype == "int32"]  # XLA cannot read those on a GPU
    np.testing.assert_array_equal(weights[1], weights[0])
    np.testing.assert_array_equal(weights[2], weights[0])
    np.testing.assert_array_equal(weights[4], weights[3])
    if name != "dualproj":  # its weights are those of the mean as long as that conflicts with no task, as here
        assert not np.array_equal(weights[3], weights[0])
    assert int(model.weighting.step_count) == 2


def test_every_third_step_goes_on_after_loading(tmp_path):
    """Saved between two solutions: the loaded model still has the weights and the place in the cycle."""
    model = make_model(W.NashMTL(every=3))
    fit(model, part=slice(2 * BATCH))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.run_eagerly = True  # against the graph
    logs = [fit(m)["a_weight"] for m in (model, again)]
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-5)
    for a, b in zip(model.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
