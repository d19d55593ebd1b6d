"""delta_m: by hand, in logs, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.metrics import DeltaM, delta_m, higher_is_better


def small_model(**options):
    inputs = keras.Input((3,))
    hidden = layers.Dense(4, activation="relu")(inputs)
    outputs = {"a": layers.Dense(1)(hidden), "b": layers.Dense(1, activation="sigmoid")(hidden)}
    model = keras_mtl.MultiTaskModel(inputs, outputs)
    model.compile(
        "sgd",
        loss={"a": "mse", "b": "binary_crossentropy"},
        metrics={"a": ["mae"], "b": ["accuracy"]},
        **{"run_eagerly": True, **options},  # tracing takes longer than these few steps
    )
    return model


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype("float32")
    return x, {"a": x[:, 0], "b": (x[:, 1] > 0).astype("int32")}


def test_value_by_hand():
    values = {"a": {"mae": 1.5, "mse": 4.0}, "b": {"accuracy": 0.9}}
    baselines = {"a": {"mae": 2.0, "mse": 3.2}, "b": {"accuracy": 0.8}}
    # Task a: mean of +25 % and -25 %; task b: +12.5 %.
    assert delta_m(values, baselines) == pytest.approx((0.0 + 12.5) / 2)


def test_logged_in_fit_and_evaluation(data):
    x, y = data
    baselines = {"a": {"mae": 0.5, "loss": 0.7}, "b": {"accuracy": 0.75}}
    model = small_model(delta_m=baselines, run_eagerly=False)
    logs = model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0).history
    for prefix in ("", "val_"):
        for epoch in range(2):
            values = {t: {m: logs[f"{prefix}{t}_{m}"][epoch] for m in of_task} for t, of_task in baselines.items()}
            assert logs[f"{prefix}delta_m"][epoch] == pytest.approx(delta_m(values, baselines), rel=1e-4)


def test_early_stopping_can_choose_by_it(data):
    x, y = data
    model = small_model(delta_m=DeltaM({"a": {"mae": 0.5}, "b": {"accuracy": 0.75}}))
    stopping = keras.callbacks.EarlyStopping("val_delta_m", mode="max", patience=1, min_delta=1e6)
    model.fit(x, y, epochs=5, validation_data=(x, y), callbacks=[stopping], verbose=0)
    assert stopping.stopped_epoch == 1


def test_a_checkpoint_can_choose_by_it(data, tmp_path):
    x, y = data
    model = small_model(delta_m=DeltaM({"a": {"mae": 0.5}, "b": {"accuracy": 0.75}}))
    path = tmp_path / "best.keras"
    keep = keras.callbacks.ModelCheckpoint(path, monitor="val_delta_m", mode="max", save_best_only=True)
    # A rate that grows too high: the best epoch is not the last.
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: (0.1, 0.1, 30.0)[epoch])
    logs = model.fit(x, y, epochs=3, validation_data=(x, y), callbacks=[keep, rate], verbose=0).history["val_delta_m"]
    assert max(logs) != logs[-1]
    best = keras.models.load_model(path).evaluate(x, y, verbose=0, return_dict=True)["delta_m"]
    assert best == pytest.approx(max(logs), rel=1e-4)


def test_survives_save_and_load(data, tmp_path):
    x, y = data
    model = small_model(delta_m=DeltaM({"a": {"mae": 0.5}, "b": {"accuracy": 0.75}}))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    results = [m.evaluate(x, y, verbose=0, return_dict=True)["delta_m"] for m in (model, loaded)]
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_directions():
    assert higher_is_better("b_auc") and not higher_is_better("a_mae")
    assert higher_is_better("score", {"score": "max"})
    with pytest.raises(ValueError, match="'score'"):
        higher_is_better("score")


def test_bad_baselines():
    with pytest.raises(ValueError, match=r"should not be 0.*'a' mae"):
        DeltaM({"a": {"mae": 0.0}})
    with pytest.raises(ValueError, match=r"missing: \['b'\]"):
        small_model(delta_m={"a": {"mae": 0.5}})
    with pytest.raises(ValueError, match=r"'b'.*'auc'"):
        small_model(delta_m={"a": {"mae": 0.5}, "b": {"auc": 0.5}})
    with pytest.raises(ValueError, match="'my_score'"):
        DeltaM({"a": {"my_score": 1.0}})


def test_k15_a_search_can_choose_by_delta_m(data, tmp_path):
    """keras-tuner cannot tell which way a task's metric is better; delta_m names one direction for all."""
    import keras_tuner

    x, y = data
    baselines = {"a": {"mae": 0.5}, "b": {"accuracy": 0.75}}

    def tuner(objective, name):
        return keras_tuner.RandomSearch(
            lambda hp: small_model(delta_m=baselines), objective, max_trials=1, directory=tmp_path, project_name=name
        )

    with pytest.raises(ValueError, match="objective"):
        tuner("val_a_mae", "unknown")
    search = tuner(keras_tuner.Objective("val_delta_m", "max"), "known")
    search.search(x, y, epochs=1, validation_data=(x, y), verbose=0)
    (trial,) = search.oracle.get_best_trials()
    logs = {m: trial.metrics.get_best_value(f"val_{m}") for m in ("a_mae", "b_accuracy")}
    values = {"a": {"mae": logs["a_mae"]}, "b": {"accuracy": logs["b_accuracy"]}}
    assert trial.score == pytest.approx(delta_m(values, baselines), rel=1e-4)
