"""M-ConFIG against its equations in NumPy, step by step, and what its place costs and gives in `fit`."""

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl import weighting as W
from keras_mtl.training import places

RNG = np.random.default_rng(0)
JACOBIANS = RNG.standard_normal((9, 3, 5)) * np.array([[1.0], [30.0], [0.1]])
ONES = np.ones(3, "float32")


def config(rows):
    """ConFIG of its own definition: the pseudo-inverse of the unit gradients."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    direction = np.linalg.pinv(unit) @ np.ones(len(rows))
    direction /= np.linalg.norm(direction)
    return (rows @ direction).sum() * direction


def expected(jacobians, beta_1, beta_2, rescale):
    """Directions of the official algorithm, one task after the other."""
    size = jacobians.shape[1]
    momenta, turns = np.zeros(jacobians.shape[1:]), np.zeros(size)
    pseudo_momentum = squares = np.zeros(jacobians.shape[2])
    steps = 0
    for t, jacobian in enumerate(jacobians):
        i = t % size
        momenta[i] = beta_1 * momenta[i] + (1 - beta_1) * jacobian[i]
        turns[i] += 1
        if turns.min() == 0:
            yield np.zeros(jacobians.shape[2])
            continue
        steps += 1
        direction = config(momenta / (1 - beta_1**turns)[:, None])
        if rescale:
            momentum = direction * (1 - beta_1**steps)
            pseudo = (momentum - beta_1 * pseudo_momentum) / (1 - beta_1)
            pseudo_momentum = momentum
            squares = beta_2 * squares + (1 - beta_2) * pseudo**2
            direction = direction / (np.sqrt(squares / (1 - beta_2**steps)) + 1e-8)
        yield direction


@pytest.mark.oracle
@pytest.mark.parametrize("rescale", [True, False])
def test_directions_follow_the_equations(rescale):
    weighting = W.MConFIG(beta_1=0.8, beta_2=0.9, rescale=rescale)
    weighting.build((3, 5))
    for jacobian, direction in zip(JACOBIANS, expected(JACOBIANS, 0.8, 0.9, rescale), strict=True):
        found, weights = weighting.direction(jacobian.astype("float32"), ONES, ONES)
        np.testing.assert_allclose(found, direction, rtol=2e-4, atol=1e-5)
        assert np.any(weights.numpy() != 0) == np.any(direction != 0)


def test_one_task_has_the_same_direction_at_every_turn():
    weighting = W.MConFIG(beta_1=0.0, rescale=False)
    weighting.build((1, 5))
    for jacobian in JACOBIANS:
        direction, weights = weighting.direction(jacobian[:1].astype("float32"), ONES[:1], ONES[:1])
        np.testing.assert_allclose(direction, jacobian[0], rtol=1e-5)
        np.testing.assert_allclose(weights, [1.0], rtol=1e-6)


def test_absent_tasks_lose_their_turn_and_newcomers_come_first():
    weighting = W.MConFIG(beta_1=0.5, rescale=False)
    weighting.build((3, 5))
    two = np.array([1, 0, 1], "float32")
    found = [weighting.direction(np.float32(j) * two[:, None], two, two)[0].numpy() for j in JACOBIANS[:3]]
    np.testing.assert_array_equal(weighting.turns, [2, 0, 1])
    assert np.all(found[0] == 0) and np.any(found[1] != 0)
    momenta = weighting.momenta.numpy()
    direction, weights = weighting.direction(np.float32(JACOBIANS[3]), ONES, ONES)
    np.testing.assert_array_equal(weighting.turns, [2, 1, 1])
    np.testing.assert_array_equal(weighting.momenta.numpy()[[0, 2]], momenta[[0, 2]])
    rows = weighting.momenta.numpy() / (1 - 0.5 ** np.array([2, 1, 1]))[:, None]
    np.testing.assert_allclose(direction, config(rows), rtol=1e-4, atol=1e-5)
    assert np.all(weights.numpy() > 0)


X = RNG.standard_normal((24, 4)).astype("float32")
Y = {"a": X[:, :1], "b": -X[:, :1] + X[:, 1:2], "c": X[:, 2:3] * X[:, 3:]}


def with_heads():
    heads = {task: keras.layers.Dense(1, name=f"{task}_out") for task in Y}
    return keras_mtl.hard_sharing(keras.Input((4,)), [keras.layers.Dense(3, activation="tanh")], heads)


def all_shared():
    inputs = keras.Input((4,))
    both = keras.layers.Dense(3)(keras.layers.Dense(3, activation="tanh")(inputs))
    outputs = {task: keras.layers.Lambda(lambda t, k=k: t[:, k : k + 1])(both) for k, task in enumerate(Y)}
    return keras_mtl.MultiTaskModel(inputs, outputs)


@pytest.mark.parametrize("build", [with_heads, all_shared], ids=lambda f: f.__name__)
def test_a_step_is_that_of_the_whole_jacobian(build):
    """What one backward pass gives is the direction of the same rows, taken all at once."""
    steps = []
    for of_all in (False, True):
        keras.utils.set_random_seed(1)
        model = build()
        weighting = W.MConFIG(beta_1=0.5, rescale=False)
        model.compile(keras.optimizers.SGD(0.1), loss="mse", weighting=weighting, run_eagerly=True)
        assert isinstance(weighting.place(places, model), places.OneTask)
        if of_all:
            weighting.place = lambda places, model: places.Parameters(model)
        model.fit(X, Y, batch_size=6, shuffle=False, verbose=0)  # four steps: each task's turn, and one again
        steps.append([v.numpy() for v in model.trainable_variables])
    for ours, theirs in zip(*steps, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_it_trains_where_equal_weights_do_not_see_a_small_loss():
    scaled = {"a": 100.0 * Y["a"], "c": 0.01 * Y["a"]}
    keras.utils.set_random_seed(1)
    model = keras_mtl.hard_sharing(
        keras.Input((4,)), [keras.layers.Dense(2)], {task: keras.layers.Dense(1) for task in scaled}
    )
    model.compile(keras.optimizers.Adam(0.05, beta_1=0.0), loss="mse", weighting=W.MConFIG(rescale=False))
    history = model.fit(X, scaled, batch_size=8, epochs=30, verbose=0).history
    for task in scaled:
        assert history[f"{task}_loss"][-1] < 0.9 * history[f"{task}_loss"][0]


def test_options_are_checked():
    for options in ({"beta_1": 1.0}, {"beta_2": -0.1}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` should be a finite number"):
            W.MConFIG(**options)
    with pytest.raises(ValueError, match="`rescale` should be "):
        W.MConFIG(rescale=None)
