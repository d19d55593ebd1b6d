"""ReLoBRaLo against its equation in NumPy, step by step."""

import numpy as np
import pytest

from keras_mtl import weighting as W

RNG = np.random.default_rng(0)
LOSSES = np.exp(0.5 * RNG.standard_normal((12, 3))) * np.array([1.0, 100.0, 0.01])
ONES = np.ones(3, "float32")


def balance(losses, since, temperature):
    powers = np.exp(losses / since / temperature)
    return len(losses) * powers / powers.sum()


def choices(step, last_weights, temperature, alpha, losses=LOSSES):
    """Weights of a step, without a look back and with one, all tasks present."""
    if step == 0:
        return [np.ones(losses.shape[1])] * 2
    recent = balance(losses[step], losses[step - 1], temperature)
    if step == 1:
        return [recent] * 2
    first = balance(losses[step], losses[0], temperature)
    return [alpha * kept + (1 - alpha) * recent for kept in (last_weights, first)]


def train(weighting, losses=LOSSES, present=ONES):
    weights = []
    for row in losses.astype("float32"):
        weights.append(np.array(weighting(row * present, present=present)))
        weighting.update(row * present, present, weights[-1])
    return np.array(weights)


@pytest.mark.oracle
@pytest.mark.parametrize(("rho", "look_back"), [(1.0, 0), (0.0, 1)])
def test_weights_follow_the_equation(rho, look_back):
    weights = train(W.ReLoBRaLo(temperature=0.5, alpha=0.9, rho=rho))
    expected = None
    for step in range(len(LOSSES)):
        expected = choices(step, expected, 0.5, 0.9)[look_back]
        np.testing.assert_allclose(weights[step], expected, rtol=2e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 3.0, rtol=1e-5)


@pytest.mark.oracle
def test_three_steps_by_hand():
    # Ratios 1/2 and 1, then 1 and 1/2 of the last step, 1/2 and 1/2 of the first.
    losses = np.array([[1.0, 8.0], [0.5, 8.0], [0.5, 4.0]])
    weights = train(W.ReLoBRaLo(alpha=0.5, rho=1.0), losses, np.ones(2, "float32"))
    np.testing.assert_allclose(weights, [[1, 1], [0.755081, 1.244919], [1, 1]], atol=1e-6)
    weights = train(W.ReLoBRaLo(alpha=0.5, rho=0.0), losses, np.ones(2, "float32"))
    np.testing.assert_allclose(weights[2], [0.5 + 0.622459, 0.5 + 0.377541], atol=1e-6)


@pytest.mark.oracle
def test_looks_back_as_often_as_rho_says():
    losses = np.tile(LOSSES, (10, 1))
    weights = train(W.ReLoBRaLo(alpha=0.9, rho=0.7, seed=3), losses)
    looked_back = 0
    for step in range(2, len(losses)):
        kept, back = choices(step, weights[step - 1], 1.0, 0.9, losses)
        errors = [np.abs(weights[step] - choice).max() for choice in (kept, back)]
        assert min(errors) < 1e-4 < max(errors)
        looked_back += errors[1] < errors[0]
    assert 20 < looked_back < 52  # 118 draws: 35 +- 5


def test_losses_own_scale_does_not_matter():
    plain = train(W.ReLoBRaLo(rho=0.5, seed=1))
    np.testing.assert_allclose(train(W.ReLoBRaLo(rho=0.5, seed=1), 1e-3 * LOSSES), plain, rtol=1e-4)


@pytest.mark.oracle
def test_absent_tasks_keep_their_state_and_are_left_out_of_the_balance():
    weighting = W.ReLoBRaLo(alpha=0.5, rho=1.0)
    before = train(weighting, LOSSES[:3])[-1]
    there = np.array([1, 0, 1], "float32")
    weights = train(weighting, LOSSES[3:4], there)[0]
    two = 0.5 * before[[0, 2]] + 0.5 * balance(LOSSES[3, [0, 2]], LOSSES[2, [0, 2]], 1.0)
    np.testing.assert_allclose(weights, [two[0], 0.0, two[1]], rtol=1e-5)
    np.testing.assert_allclose(weighting.current_weights[1], before[1], rtol=1e-6)
    np.testing.assert_allclose(weighting.last_losses[1], LOSSES[2, 1], rtol=1e-6)
    # Its next step goes on from the last one that had it.
    weights = train(weighting, LOSSES[4:5])[0]
    now = balance(LOSSES[4], np.where(there > 0, LOSSES[3], LOSSES[2]), 1.0)
    np.testing.assert_allclose(weights, 0.5 * np.array([two[0], before[1], two[1]]) + 0.5 * now, rtol=1e-5)


def test_a_task_that_comes_late_begins_with_a_weight_of_1():
    weighting = W.ReLoBRaLo(alpha=0.5, rho=1.0)
    train(weighting, LOSSES[:2], np.array([1, 1, 0], "float32"))
    weights = train(weighting, LOSSES[2:4])
    assert weights[0, 2] == 1.0
    # In its own second step it has the balance of that step alone.
    np.testing.assert_allclose(weights[1, 2], balance(LOSSES[3], LOSSES[2], 1.0)[2], rtol=1e-5)
    np.testing.assert_allclose(weighting.first_losses[2], LOSSES[2, 2], rtol=1e-6)


def test_what_is_restored_goes_on_with_the_same_draws():
    weighting, again = (W.ReLoBRaLo(alpha=0.9, rho=0.5, seed=5) for _ in range(2))
    train(weighting, LOSSES[:6])
    store: dict = {}
    weighting.save_own_variables(store)
    again.build((3,))
    again.load_own_variables(store)
    rest = train(weighting, LOSSES[6:])
    np.testing.assert_array_equal(train(again, LOSSES[6:]), rest)
    assert not np.allclose(train(W.ReLoBRaLo(alpha=0.9, rho=0.5, seed=5), LOSSES[6:]), rest)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"alpha": 1.5}, {"alpha": -0.1}, {"rho": 2}, {"rho": "1"}])
def test_options_are_checked(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` should be a finite number, .* Received: {name}="):
        W.ReLoBRaLo(**options)
