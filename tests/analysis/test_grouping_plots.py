"""Pictures of affinities and budgets: that they are drawn, and what they refuse."""

import numpy as np
import pytest

from keras_mtl.analysis import Affinity, Grouping, group_tasks, plot_budgets


@pytest.fixture(scope="module")
def affinity():
    return Affinity("abcd", np.random.default_rng(0).normal(size=(4, 4)))


def test_pictures(affinity, tmp_path):
    affinity.plot(tmp_path / "heat.png")
    affinity.symmetric().plot_dendrogram(tmp_path / "tree.png", groups=2)
    groupings = [group_tasks(affinity, budget) for budget in (1, 2, 3)]
    plot_budgets({"a": groupings, "b": groupings}, tmp_path / "budgets.png", baselines={"single-task": 0.2})
    assert all(path.stat().st_size > 8_000 for path in tmp_path.glob("*.png"))
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_bad_input(affinity, tmp_path):
    with pytest.raises(ValueError, match="both directions"):
        affinity.plot_dendrogram(tmp_path / "tree.png")
    with pytest.raises(ValueError, match="with objectives"):
        plot_budgets([Grouping([["a"]])], tmp_path / "budgets.png")
