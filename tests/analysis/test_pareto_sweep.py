"""A sweep of preferences: its front and hypervolume by hand, resuming, choosing, what it refuses."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.analysis import ParetoSweep, pareto_sweep
from keras_mtl.analysis._fronts import beats, hypervolume

X = np.zeros((8, 1), "float32")
Y = {"a": np.full((8, 1), -1.0, "float32"), "b": np.full((8, 1), 1.0, "float32")}


class Everywhere(layers.Layer):
    """One number, whatever the input."""

    def build(self, input_shape):
        self.value = self.add_weight(shape=(1,), initializer="zeros", name="value")

    def call(self, inputs):
        return keras.ops.zeros_like(inputs) + self.value


def build(preference):
    """Two losses of one number, (v + 1)^2 and (v - 1)^2: their weighted sum is least at v = p_b - p_a."""
    inputs = keras.Input((1,))
    value = Everywhere()(inputs)
    outputs = {task: layers.Identity(name=f"{task}_out")(value) for task in Y}
    model = keras_mtl.MultiTaskModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.25), loss="mse", loss_weights=preference, run_eagerly=True)
    return model


def sweep(preferences=3, build=build, **options):
    options = {"metrics": {"a": "loss", "b": "loss"}, "test": (X, Y), "epochs": 3, "progress": False, **options}
    return pareto_sweep(build, preferences, (X, Y), batch_size=2, **options)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return folder, sweep([{"a": 1, "b": 4}, {"b": 2, "a": 2}, {"a": 4, "b": 1}], directory=folder)


def test_every_preference_has_its_model(found):
    _, result = found
    assert [point["preference"] for point in result.points] == [
        {"a": 0.2, "b": 0.8},
        {"a": 0.5, "b": 0.5},
        {"a": 0.8, "b": 0.2},
    ]
    for point, model in zip(result.points, result.models, strict=True):
        value = point["preference"]["b"] - point["preference"]["a"]
        np.testing.assert_allclose(model.trainable_variables[0][0], value, atol=0.01)
        np.testing.assert_allclose(point["a_loss"], (model.trainable_variables[0][0] + 1) ** 2, rtol=1e-5)
    assert all(point["on_front"] for point in result.points)


def test_what_was_trained_is_read_and_has_its_weights(found, monkeypatch):
    folder, result = found
    monkeypatch.setattr(keras_mtl.MultiTaskModel, "fit", None)
    again = sweep([{"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.8}], directory=folder)
    assert again.points[0] == {**result.points[1], "on_front": True}
    np.testing.assert_array_equal(again.models[1].trainable_variables[0], result.models[0].trainable_variables[0])


def test_an_integer_is_a_grid_of_the_simplex():
    kept = []

    def note(preference):
        kept.append(preference)
        raise KeyboardInterrupt

    for tasks, count, expected in (("ab", 3, 3), ("abc", 4, 10)):
        with pytest.raises(KeyboardInterrupt):
            sweep(count, build=note, metrics=dict.fromkeys(tasks, "loss"))
        from keras_mtl.analysis.pareto_sweep import _checked

        grid = _checked(count, list(tasks))
        assert len(grid) == expected and grid[0] == kept[-1]
        assert all(abs(sum(p.values()) - 1) < 1e-9 for p in grid)


POINTS = [
    {"preference": {"a": 0.0, "b": 1.0}, "a_accuracy": 0.5, "b_loss": 1.0},
    {"preference": {"a": 0.3, "b": 0.7}, "a_accuracy": 0.4, "b_loss": 2.0},  # beaten by the first
    {"preference": {"a": 0.5, "b": 0.5}, "a_accuracy": 0.8, "b_loss": 2.0},
    {"preference": {"a": 1.0, "b": 0.0}, "a_accuracy": 0.9, "b_loss": 5.0},
]


def by_hand():
    return ParetoSweep(
        [dict(point) for point in POINTS], ["first", "second", "third", "fourth"], {"a_accuracy": 1, "b_loss": -1}
    )


@pytest.mark.oracle
def test_front_and_hypervolume_by_hand():
    result = by_hand()
    assert [point["on_front"] for point in result.points] == [True, False, True, True]
    # Above 0.4 and below 5: steps of 0.1 x 4, 0.3 x 3; the last one has no height.
    np.testing.assert_allclose(result.hypervolume(), 0.1 * 4 + 0.3 * 3)
    np.testing.assert_allclose(result.hypervolume({"a_accuracy": 0.0, "b_loss": 6.0}), 0.5 * 5 + 0.3 * 4 + 0.1 * 1)
    assert result.hypervolume({"a_accuracy": 1.0, "b_loss": 6.0}) == 0.0


@pytest.mark.oracle
def test_hypervolume_of_three_numbers_is_the_share_of_random_points():
    rng = np.random.default_rng(0)
    points, samples = rng.random((12, 3)), rng.random((200_000, 3))
    dominated = np.zeros(len(samples), bool)
    for point in points:
        dominated |= np.all(samples < point, axis=1)
    np.testing.assert_allclose(hypervolume(points.tolist(), [0.0] * 3), dominated.mean(), atol=4e-3)


def test_points_that_are_no_number_beat_none():
    assert not beats([np.nan, 2.0], [1.0, 1.0])
    assert beats([1.0, 2.0], [1.0, 1.0]) and not beats([1.0, 1.0], [1.0, 1.0])


def test_a_trade_off_chooses():
    result = by_hand()
    # Relative losses of the front: (1, 0), (0.25, 0.25), (0, 1).
    assert result.choose({"a": 1, "b": 1})[1] == "third"
    assert result.choose({"a": 1, "b": 9})[1] == "first"
    assert result.choose({"a": 9, "b": 1})[1] == "fourth"
    point, model = result.choose(lambda values: values["b_loss"] - 100 * values["a_accuracy"])
    assert model == "fourth" and point["a_accuracy"] == 0.9
    with pytest.raises(ValueError, match="`trade_off` should not be all 0"):
        result.choose({"a": 0, "b": 0})


def test_table_json_and_picture(tmp_path):
    result = by_hand()
    assert "3 of 4 preferences are on the front" in str(result)
    assert "| 0.5 | 0.5 | 0.8 | 2 | front |" in result.to_markdown()
    assert '"on_front": true' in result.to_json(tmp_path / "points.json")
    pytest.importorskip("matplotlib")
    result.plot(tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        ([{"a": 1.0}], r"`preferences` should have one number for each of the tasks \['a', 'b'\]"),
        ([{"a": 1.0, "c": 1.0}], "`preferences` should have one number for each of the tasks"),
        ([{"a": -1.0, "b": 2.0}], "`preferences` should be a finite number, at least 0"),
        ([{"a": 0.0, "b": 0.0}], "`preferences` should not be all 0"),
        ([], "`preferences` should be a list of dicts"),
        (1, "`preferences` should be an integer of at least 2"),
        ("ab", "`preferences` should be a list of dicts"),
    ],
)
def test_bad_preferences_are_refused_before_a_model_is_built(preferences, message):
    with pytest.raises(ValueError, match=message):
        sweep(preferences, build=None)


def test_what_is_no_new_model_is_refused():
    model = build({"a": 1, "b": 1})
    with pytest.raises(ValueError, match=r"`build`, for the preference .* should build a new model each time"):
        sweep(3, build=lambda preference: model, epochs=1)
    with pytest.raises(ValueError, match="`metrics` should be a dict from two tasks or more"):
        sweep(metrics={"a": "loss"})
