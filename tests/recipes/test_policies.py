"""What policies that share are worth: Distral in two rooms, and what shaping leaves as it is."""

import sys

import numpy as np
import pytest

pytest.importorskip("gymnasium")


def test_rooms_are_joined_by_a_corridor(recipe):
    rooms = recipe("two_rooms").TwoRooms(goal=0)
    assert rooms.free.sum() == 2 * 25 + 8 == rooms.observation_space.n
    assert len(rooms.starts) == 25 and rooms.goal not in rooms.starts
    rooms.reset(seed=0)
    rooms.state = 0  # the corner: up and left lead nowhere
    assert [rooms.after[0, a] for a in (0, 2)] == [0, 0]
    assert rooms.step(3)[0] == 1  # the next cell of the row
    # Back into the corner, which is the goal.
    assert rooms.step(2)[:4] == (0, 10.0, True, False)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1.0, 0.8])
def test_a_distilled_policy_helps_and_carries_over(alpha, recipe):
    """Joint ratio below 0.97, transfer ratio below 0.75, on seeds that chose nothing."""
    rooms = recipe("two_rooms")
    joint, transfer = zip(*(rooms.ratios(rooms.play(alpha, seed)[0]) for seed in range(10, 15)), strict=True)
    assert np.mean(joint) < 0.97 and np.mean(transfer) < 0.75
    assert max(transfer) < 0.75


def test_potentials_leave_the_best_actions_and_a_bonus_does_not(recipe):
    found = recipe("reward_shaping").exact()
    assert found["potential"]["moved"] < 1e-12
    assert found["potential"]["wrong"] == 0 and found["potential"]["reached"] == 1
    assert found["bonus"]["wrong"] > 0 and found["bonus"]["reached"] == 0


@pytest.mark.slow
def test_a_good_potential_finds_the_goal_sooner(recipe):
    shaping = recipe("reward_shaping")
    for seed in range(10, 15):
        plain, shaped = (shaping.learn(arm, seed, 10).mean() for arm in ("as it is", "potential"))
        assert shaped < 0.5 * plain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two_rooms", "reward_shaping"])
def test_quick_runs(name, recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    recipe(name).main()
    assert list((tmp_path / "runs" / f"{name}-quick").glob("*.png"))
