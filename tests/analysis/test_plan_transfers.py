"""Transfers: published affinities of Taskonomy, the hierarchy process by hand, what is refused."""

import itertools
import json
import pathlib

import numpy as np
import pytest
from scipy.stats import norm

from keras_mtl.analysis import ahp, plan_transfers, win_rates

GOLDENS = pathlib.Path(__file__).parent / "goldens"


@pytest.fixture(scope="module")
def taskonomy():
    content = json.loads((GOLDENS / "taskonomy_affinities.json").read_text())["affinities"]
    keys = [name.split("__") for name in content]
    return {(tuple(sources), target): value for (*sources, target), value in zip(keys, content.values(), strict=True)}


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("order", "budget", "objective", "sources"),
    [
        (1, 1, 0.6453, {"rgb2sfnorm"}),
        (1, 2, 0.9878, {"denoise", "rgb2sfnorm"}),
        (1, 3, 1.0408, {"denoise", "rgb2sfnorm", "segmentsemantic_rb"}),
        (2, 1, 0.6453, {"rgb2sfnorm"}),
        (2, 2, 1.2463, {"edge3d", "rgb2sfnorm"}),
        (2, 3, 1.5879, {"denoise", "edge3d", "rgb2sfnorm"}),
    ],
)
def test_taskonomy_optima(taskonomy, order, budget, objective, sources):
    policy = plan_transfers({edge: p for edge, p in taskonomy.items() if len(edge[0]) <= order}, budget)
    assert round(policy.objective, 4) == objective and set(policy.sources) == sources
    assert len(policy.transfers) == 22 and all(set(s) <= sources for s in policy.transfers.values())


@pytest.mark.oracle
def test_affinities_by_ahp():
    """Four sources whose losses lie 0, 1, 2, 3 standard deviations apart, as normal variables."""
    places = np.arange(4.0)
    rates = norm.cdf((places[None] - places[:, None]) / np.sqrt(2))
    np.testing.assert_allclose(ahp(rates), [0.730, 0.198, 0.056, 0.017], atol=0.002)
    # The eigenvalue, from the published definition: odds times affinities.
    odds = rates / rates.T
    np.testing.assert_allclose((odds @ ahp(rates)) / ahp(rates), 4.02, atol=0.01)


def test_ahp_of_consistent_odds_is_exact():
    """Odds that are ratios of numbers have these numbers as affinities."""
    strength = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(ahp(strength[:, None] / (strength[:, None] + strength)), strength, atol=1e-12)
    never = ahp([[0.5, 1.0], [0.0, 0.5]])  # clipped to .999
    np.testing.assert_allclose(never, [0.999, 0.001])


def test_win_rates_by_hand():
    rates = win_rates([[1, 2, 3, 4], [2, 2, 1, 5]])
    np.testing.assert_allclose(rates, [[0.5, 0.625], [0.375, 0.5]])


def test_best_policy_by_brute_force():
    rng = np.random.default_rng(0)
    tasks = "abcde"
    singles = {((s,), t): rng.random() for s in tasks for t in tasks}
    pairs = {(s, t): 1.3 * rng.random() for s in itertools.combinations(tasks, 2) for t in tasks}
    affinities = {**singles, **pairs}
    weights, costs = {"a": 2.0, "b": 0.5}, {"c": 1.5, "d": 0.5}
    for budget in (1, 2, 2.5):
        best = max(
            sum(
                weights.get(t, 1.0) * max(p for (s, of), p in affinities.items() if of == t and set(s) <= set(chosen))
                for t in tasks
            )
            for count in range(1, 6)
            for chosen in itertools.combinations(tasks, count)
            if sum(costs.get(s, 1.0) for s in chosen) <= budget
        )
        policy = plan_transfers(affinities, budget, weights=weights, costs=costs)
        assert policy.objective == pytest.approx(best)
        assert sum(costs.get(s, 1.0) for s in policy.sources) <= budget


def test_tasks_that_are_sources_only(taskonomy):
    policy = plan_transfers(taskonomy, 3, sources=["colorization", "jigsaw", "rgb2sfnorm"])
    assert set(policy.sources) <= {"colorization", "jigsaw", "rgb2sfnorm"} and len(policy.transfers) == 22


def test_picture_and_table(taskonomy, tmp_path):
    policy = plan_transfers(taskonomy, 4)
    policy.plot(tmp_path / "transfers.png")
    assert (tmp_path / "transfers.png").stat().st_size > 20_000
    assert "rgb2sfnorm" in str(policy) and "1.7357" in str(policy)


def test_bad_input():
    affinities = {("a", "b"): 0.5, ("b", "a"): 0.5}
    with pytest.raises(ValueError, match=r"cheapest costs 1\. Received: budget=0"):
        plan_transfers(affinities, 0)
    with pytest.raises(ValueError, match="reach every target"):
        plan_transfers(affinities, 1)
    with pytest.raises(ValueError, match=r"none to \['c'\]"):
        plan_transfers(affinities, 2, targets=["a", "c"])
    with pytest.raises(ValueError, match="on task 'b'"):
        plan_transfers({("a", "b"): float("nan")}, 1)
    with pytest.raises(ValueError, match="keys of `weights`"):
        plan_transfers(affinities, 2, weights={"z": 1})
    with pytest.raises(ValueError, match="above 0"):
        plan_transfers(affinities, 2, costs={"a": 0})
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        ahp([[0.5, 1.2], [0.1, 0.5]])
    with pytest.raises(ValueError, match="1 values that are not finite"):
        win_rates([[1.0, np.nan]])
