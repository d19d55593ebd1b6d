"""The study of search: its problem is what it says, and it finds what was planted."""

import numpy as np
import pytest


def test_tasks_read_the_same_four_directions_and_no_two_combinations_serve_all(recipe):
    """By the slopes of the labels, of which the linear part shows at so many examples."""
    recipe = recipe("search_sharing")
    recipe.EXAMPLES = {"train": 0, "validation": 50_000}
    x, labels = recipe.planted_data(0)["validation"]
    slopes = np.stack([(x * y).mean(axis=0) for y in labels.values()])
    assert slopes.shape == (recipe.TASKS, recipe.INPUTS)
    values = np.linalg.svd(slopes, compute_uv=False)
    assert values[recipe.DIRECTIONS] < 0.05 * values[0]  # a fifth direction is noise of the means
    assert values[recipe.UNITS] > 0.15 * values[0]  # a third one is not


def test_only_training_labels_are_noisy(recipe):
    recipe = recipe("search_sharing")
    noisy = recipe.planted_data(3)
    recipe.NOISE = 0.0
    clean = recipe.planted_data(3)
    for task, y in clean["train"][1].items():
        assert np.std(noisy["train"][1][task] - y) == pytest.approx(0.2, rel=0.2)
    np.testing.assert_array_equal(noisy["validation"][1]["t0"], clean["validation"][1]["t0"])


@pytest.mark.slow
def test_the_planted_depth_is_found(recipe, tmp_path):
    """One seed of the five of the recipe, with fewer trials."""
    recipe = recipe("search_sharing")
    (best, *_) = recipe.planted([0], 10, tmp_path)[0]
    assert best[0] == recipe.PLANTED
