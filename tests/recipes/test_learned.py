"""What the recipes of learned sharing, of one core and of queries have shown with five seeds, with others."""

import sys

import numpy as np
import pytest


def test_planted_tasks_are_made_as_said(recipe):
    """Half of the training labels are wrong by about 1, test labels are right."""
    learned = recipe("learned_sharing")
    (x, y), (_, clean) = learned.make_data(3)
    again, _ = learned.make_data(3)
    np.testing.assert_array_equal(again[0], x)
    assert set(y) == {"a_0", "a_1", "a_2", "b_0", "b_1", "b_2"} and len(x) == learned.TRAIN
    assert all(abs(labels.std() - 1) < 0.1 for labels in clean.values())
    assert all(labels.var() == pytest.approx(1.5, abs=0.15) for labels in y.values())
    _, (_, clean) = learned.make_deep_data(3)
    assert set(clean) == {"a_0", "a_1", "b_0"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 25))
def test_the_tree_parts_planted_groups_and_pays_for_it(recipe, seed):
    """Where a branch is cheap, groups part, and the tree has less than two thirds of the error of one trunk."""
    learned = recipe("learned_sharing")
    apart, size, error = learned.grow(seed, 0.03, 16)
    together, small, shared = learned.grow(seed, 0.3, 16)
    assert apart and not together and size > small
    assert error < 0.67 * shared


@pytest.mark.slow
def test_words_of_both_tasks_help_ranking(recipe):
    """As all of ten seeds did, one that chose nothing ranks better together."""
    queries = recipe("queries")
    train, test = queries.make_data("made-up", 20, queries.SIZES["made-up"])
    steps = {"domain": 500, "ranking": 1200}
    alone = queries.train_and_test(["ranking"], train, test, steps, 20)
    together = queries.train_and_test(["domain", "ranking"], train, test, steps, 20)
    assert together["NDCG@1"] > alone["NDCG@1"] > 0.6 and together["NDCG@3"] > alone["NDCG@3"]
    assert together["domain accuracy"] > 0.96


@pytest.mark.slow
def test_places_let_answers_be_learned_soon(recipe):
    """With attention over places nine answers of ten are right after 400 steps, without it not yet eight."""
    omni = recipe("omninet_tasks")
    right = {}
    for spatial in (True, False):
        _, found = omni.train(20, 400, spatial, epochs=1)
        right[spatial] = found["answer"][-1]
    assert right[True] > 0.9 and right[False] < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["learned_sharing", "learned_molecules", "queries"])
def test_quick_runs(name, recipe, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    if name == "learned_molecules":
        pytest.importorskip("qm9pack")
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    recipe(name).main()
    assert list((tmp_path / "runs").glob(f"{name}*/*.png"))
