"""Tasks, and examples, released in order."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import data
from keras_mtl.data import Curriculum, TaskStats, mix

STEPS = 4


def stats_of(tasks="abc"):
    return TaskStats(dict.fromkeys(tasks, 100), steps_per_epoch=STEPS)


def by_epoch(curriculum, stats, epochs):
    curriculum.prepare(stats)
    return [curriculum.probabilities(STEPS * epoch, stats).round(3).tolist() for epoch in range(epochs)]


def test_tasks_are_released_by_hand():
    third = [0.333] * 3
    assert by_epoch(Curriculum(["b", "a", "c"]), stats_of(), 4) == [[0, 1, 0], [0.5, 0.5, 0], third, third]
    assert by_epoch(Curriculum([("a", "c"), "b"], epochs=2), stats_of(), 3) == [[0.5, 0, 0.5]] * 2 + [third]


def test_tasks_are_released_by_difficulty_and_the_other_way_round():
    order = {"a": 0.9, "b": 0.1, "c": 0.5}
    assert by_epoch(Curriculum(order), stats_of(), 2) == [[0, 1, 0], [0, 0.5, 0.5]]
    assert by_epoch(Curriculum(order, reverse=True), stats_of(), 2) == [[1, 0, 0], [0.5, 0, 0.5]]


def test_released_tasks_keep_the_proportions_of_the_sampler():
    curriculum = Curriculum(["a", "b", "c"], sampler={"a": 0.5, "b": 0.3, "c": 0.2})
    assert by_epoch(curriculum, stats_of(), 3) == [[1, 0, 0], [0.625, 0.375, 0], [0.5, 0.3, 0.2]]


def test_tasks_are_released_by_learning_speed():
    """All warm up; then the task whose loss fell most comes first, and the order stays."""
    stats, curriculum = stats_of(), Curriculum("learning_speed", warmup_epochs=2)
    curriculum.prepare(stats)
    assert curriculum.probabilities(2 * STEPS - 1, stats).round(3).tolist() == [0.333] * 3
    assert curriculum.probabilities(2 * STEPS, stats).round(3).tolist() == [0.333] * 3  # no result yet
    for task, losses in {"a": (1.0, 0.9), "b": (4.0, 1.0), "c": (1.0, 0.5)}.items():
        for loss in losses:
            stats.add(f"{task}_loss", loss)
    assert curriculum.probabilities(2 * STEPS, stats).tolist() == [0, 1, 0]
    stats.add("a_loss", 0.0)
    assert curriculum.probabilities(3 * STEPS, stats).tolist() == [0, 0.5, 0.5]

    again = Curriculum("learning_speed", warmup_epochs=2)
    again.prepare(stats_of())
    again.set_state(curriculum.get_state())
    assert again.probabilities(3 * STEPS, stats_of()).tolist() == [0, 0.5, 0.5]


def test_learning_speed_by_hand():
    assert data.learning_speed([2.0, 1.0, 0.5]) == pytest.approx(1 - (0.5 + 0.25) / 2)
    assert data.learning_speed([2.0, 2.0]) == 0
    with pytest.raises(ValueError, match="`losses` should be two numbers or more"):
        data.learning_speed([1.0])


def examples(count):
    x = np.linspace(-1, 1, count * 2).reshape(count, 2).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, x[:, :1]))


@pytest.mark.parametrize("reverse", [False, True])
def test_tasks_that_are_kept_back_are_neither_trained_nor_warned_of(reverse):
    heads = {task: keras.layers.Dense(1) for task in "ab"}
    model = keras_mtl.hard_sharing(keras.Input((2,)), [keras.layers.Dense(3, name="low")], heads)
    model.compile("sgd", loss={"a": "mse", "b": "mse"})
    before = {task: [v.numpy() for v in model.task_variables(task)] for task in "ab"}
    mixture = mix({"a": examples(16), "b": examples(16)}, Curriculum(["a", "b"], 2, reverse=reverse), stop=20, seed=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*never drawn|.*no labelled example")
        logs = model.fit(mixture, epochs=2, verbose=0).history
    first, second = "ba" if reverse else "ab"
    assert logs[f"{first}_batches"] == [20, 20] and logs[f"{second}_batches"] == [0, 0]
    for old, variable in zip(before[second], model.task_variables(second), strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    logs = model.fit(mixture, epochs=1, verbose=0).history
    assert logs[f"{second}_batches"][0] > 0 and logs[f"{second}_probability"] == [0.5]


def test_competence_by_hand():
    assert data.competence(0, 100, 0.1) == pytest.approx(0.1)
    assert data.competence(50, 100, 0.1) == pytest.approx(np.sqrt(0.5 * 0.99 + 0.01))
    assert data.competence(1000, 100, 0.1) == 1.0
    assert float(data.competence(tf.constant(50.0), 100, 0.1)) == pytest.approx(np.sqrt(0.505))


@pytest.mark.parametrize("reverse", [False, True])
def test_examples_pass_once_the_model_is_up_to_them(reverse):
    numbers = np.random.default_rng(0).permutation(100)
    options = {"steps": 20, "batch_size": 5, "initial": 0.2, "reverse": reverse}
    dataset = tf.data.Dataset.from_tensor_slices(numbers)
    paced = [int(n) for n in data.pace(dataset, lambda n: n, **options).take(300)]

    expected, stream = [], 0
    while len(expected) < 300:  # by hand: in the data set's own order, those that are easy enough pass
        number = int(numbers[stream % 100])
        allowed = data.competence(len(expected) // 5, 20, 0.2)
        if (99 - number if reverse else number) / 100 < allowed:
            expected.append(number)
        stream += 1
    assert paced == expected
    assert set(paced[:5]) <= set(range(80, 100) if reverse else range(20))
    assert set(paced[-100:]) == set(range(100))


PACED = tf.data.Dataset.range(4)
BAD = [
    (lambda: Curriculum(3), "`order` should be a list of tasks"),
    (lambda: Curriculum(["a"], epochs=0), "`epochs` should be an integer of at least 1"),
    (lambda: Curriculum("learning_speed", warmup_epochs=0), "`warmup_epochs` should be an integer of at least 1"),
    (lambda: Curriculum(["a", "c"]).prepare(stats_of("ab")), "`order` should have each of the tasks .*'c'"),
    (lambda: Curriculum(["a"]).prepare(stats_of("ab")), "`order` should have each of the tasks"),
    (lambda: mix({"a": examples(8), "b": examples(8)}, Curriculum(["a", "b"])), "`stop` should be a number of steps"),
    (lambda: data.pace(PACED, lambda n: n, 1, 1, initial=0.0), "`initial` should be above 0"),
    (lambda: data.pace(PACED, lambda n: n, 0, 1), "`steps` should be an integer of at least 1"),
    (lambda: data.pace(PACED.repeat(), lambda n: n, 1, 1), "`dataset` should have an end"),
    (lambda: data.pace(PACED.take(0), lambda n: n, 1, 1), "`dataset` should have examples"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[:24] for _, message in BAD])
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
