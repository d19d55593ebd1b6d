"""The front by hand, from made-up trials."""

import json

import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import Trial

from keras_mtl.analysis._fronts import front_line
from keras_mtl.tuning import objective, pareto_front

# Accuracy of a (more is better), error of b (less is better), parameters, milliseconds, and whether it is on the front.
POINTS = {
    "0": (0.9, 1.0, 100, 5.0, True),
    "1": (0.8, 0.5, 100, 5.0, True),
    "2": (0.8, 1.0, 100, 1.0, False),  # beaten by both, but for its time
    "3": (0.8, 0.5, 100, 7.0, True),  # as good as 1, so not beaten
    "4": (0.7, 2.0, 50, 9.0, True),  # the smallest
    "5": (0.9, 1.0, 101, 5.0, False),  # as good as 0, with one parameter more
}
BASELINES = {"a": {"accuracy": 0.8}, "b": {"mae": 1.0}}


def make_tuner(points, by=None):
    class Oracle:
        objective = by or keras_tuner.Objective("val_loss", "min")
        trials: dict = {}  # noqa: RUF012

    class Tuner:
        oracle = Oracle()

    for name, (accuracy, error, parameters, time, _) in points.items():
        hp = keras_tuner.HyperParameters()
        hp.values.update({"depth": int(name), "rate": 0.123456, "tuner/epochs": 3})
        trial = Trial(hp, trial_id=name, status="COMPLETED")
        trial.score, trial.best_step = -accuracy, 2
        logs = {"val_a_accuracy": accuracy, "val_b_mae": error, "parameters": parameters, "step_ms": time}
        for log, value in logs.items():
            trial.metrics.register(log, "min")
            if value is not None:
                trial.metrics.update(log, value, step=2)
        Oracle.trials[name] = trial
    failed = Trial(keras_tuner.HyperParameters(), trial_id="failed", status="FAILED")
    Oracle.trials["failed"] = failed
    return Tuner()


def on_front(front):
    return {trial["trial"]: trial["on_front"] for trial in front.trials}


def test_front_by_hand():
    front = pareto_front(make_tuner(POINTS, objective(BASELINES)))  # the objective says which metrics
    assert on_front(front) == {name: point[-1] for name, point in POINTS.items()}
    assert {trial["trial"] for trial in front.front} == {"0", "1", "3", "4"}


def test_costs_are_the_users_choice():
    metrics = {"a": "accuracy", "b": "mae"}
    without = on_front(pareto_front(make_tuner(POINTS), metrics, costs=()))
    assert without == {"0": True, "1": True, "2": False, "3": True, "4": False, "5": True}
    timed = on_front(pareto_front(make_tuner(POINTS), metrics, costs=("step_ms",)))
    assert timed == {"0": True, "1": True, "2": True, "3": False, "4": False, "5": True}


def test_agrees_with_brute_force():
    rng = np.random.default_rng(0)
    points = {str(i): (*rng.integers(0, 4, 3), 1.0, None) for i in range(40)}
    found = on_front(pareto_front(make_tuner(points, objective(BASELINES))))
    for name, (a, b, parameters, *_) in points.items():
        better = [
            other
            for other in points.values()
            if other[0] >= a and other[1] <= b and other[2] <= parameters and tuple(other[:3]) != (a, b, parameters)
        ]
        assert found[name] == (not better)


def test_table_json_and_picture(tmp_path):
    front = pareto_front(make_tuner(POINTS, objective(BASELINES)))
    text, markdown = str(front), front.to_markdown()
    assert "4 of 6 trials are on the front" in text and "a_accuracy ↑" in text and "b_mae ↓" in text
    assert markdown.count("\n") == 1 + 4 and "depth=1, rate=0.123 |" in markdown
    front.to_json(tmp_path / "front.json")
    assert len(json.loads((tmp_path / "front.json").read_text())) == 6
    front.plot(tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 10_000


def test_the_line_of_the_front_by_hand():
    # The fewer parameters and the more accuracy the better: with 2 parameters 0.5 is had, and no more up to 4.
    assert front_line([(4, 0.9), (2, 0.5), (3, 0.4)], -1, 1) == [(2, 0.5), (4, 0.5), (4, 0.9)]
    # Less error for more accuracy: whoever needs 0.85 has to take the error of 0.9.
    assert front_line([(0.8, 0.5), (0.9, 1.0), (0.7, 2.0)], 1, -1) == [(0.9, 1.0), (0.8, 1.0), (0.8, 0.5)]


@pytest.mark.parametrize("metrics", [{"a": "accuracy"}, {"a": "accuracy", "b": "mae"}])
def test_pictures_have_no_empty_panels(metrics, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    pareto_front(make_tuner(POINTS), metrics).plot(tmp_path / "front.png")
    (figure,) = drawn
    assert len(figure.axes) == {1: 2, 2: 5}[len(metrics)]  # pairs of metrics, and each against both costs
    assert all(axis.lines for axis in figure.axes)
    named = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert named >= {trial["trial"] for trial in pareto_front(make_tuner(POINTS), metrics).front}


def test_what_was_trained_is_shown():
    """Methods that see task gradients are "equal" where nothing is shared; and no value is cut off."""
    tuner = make_tuner({name: POINTS[name] for name in ("0", "1", "4")}, objective(BASELINES))
    long = "a_name_that_is_longer_than_what_columns_used_to_hold/" * 3
    for name, shared in (("0", 0), ("1", 12), ("4", None)):
        trial = tuner.oracle.trials[name]
        trial.hyperparameters.values |= {
            "weighting": "cagrad",
            "cagrad/c": 0.3,
            "gradients": "features",
            long: 0.123456,
        }
        if shared is not None:
            trial.metrics.register("shared_parameters", "min")
            trial.metrics.update("shared_parameters", shared, step=2)
    front = pareto_front(tuner)
    values = {trial["trial"]: trial["hyperparameters"] for trial in front.trials}
    assert values["0"] == {"depth": 0, "rate": 0.123456, "weighting": "equal", long: 0.123456}
    assert values["1"]["weighting"] == values["4"]["weighting"] == "cagrad" and values["1"]["cagrad/c"] == 0.3
    text = str(front)
    assert text.count(f"{long}=0.123") == 3 and text.count("weighting=equal") == 1 and "rate=0.123" in text


def test_refuses():
    with pytest.raises(ValueError, match="`metrics` should be given"):
        pareto_front(make_tuner(POINTS))
    with pytest.raises(ValueError, match=r"`costs`.*\['money'\]"):
        pareto_front(make_tuner(POINTS), {"a": "accuracy"}, costs=["money"])
    with pytest.raises(ValueError, match=r"Trial 0 should have the logs \['val_c_accuracy'\]"):
        pareto_front(make_tuner(POINTS), {"c": "accuracy"})
    with pytest.raises(ValueError, match="completed trials"):
        pareto_front(make_tuner({}), {"a": "accuracy"})
    with pytest.raises(ValueError, match="direction"):
        pareto_front(make_tuner(POINTS), {"a": "wonder"})
