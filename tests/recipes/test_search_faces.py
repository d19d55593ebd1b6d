"""The search over trees of faces' tasks: few marks, candidates of one size, and a quick run of it all."""

import importlib
import importlib.util
import sys

import numpy as np
import pytest

from keras_mtl.tuning import SharingChoice

HAS_PACKAGES = all(importlib.util.find_spec(name) for name in ("python_avatars", "resvg_py", "PIL"))


def test_each_marked_face_has_one_place_and_the_others_none(recipe, monkeypatch):
    recipe = recipe("search_faces")
    rng = np.random.default_rng(0)

    def drawn(tasks, splits):
        def some(n):
            return rng.random((n, 64, 64, 3)), {"landmarks": rng.random((n, 10)), "smile": np.arange(n) % 2}

        return {"train": some(400), "test": some(100)}

    monkeypatch.setattr(recipe, "drawn_faces", drawn)
    monkeypatch.setattr(recipe, "MARKED", 300)
    data = recipe.face_data(quick=True)
    pictures, labels = data["train"]
    assert pictures.shape == (400, 40, 40, 3)
    whole = {place: np.isnan(labels[place]).sum(axis=1) for place in recipe.PLACES}
    assert {place: set(gaps) for place, gaps in whole.items()} == {"eyes": {0, 4}, "nose": {0, 2}, "corners": {0, 4}}
    marks = sum((gaps == 0).astype(int) for gaps in whole.values())
    assert (marks[:300] == 1).all() and (marks[300:] == 0).all()
    assert not any(np.isnan(data["test"][1][place]).any() for place in recipe.PLACES)


@pytest.mark.slow
def test_candidates_have_one_number_of_parameters(recipe):
    recipe = recipe("search_faces")
    kinds = [list(recipe.CLASSES), list(recipe.PLACES)]
    trees = SharingChoice("branched_sharing", {"branches": [kinds] * recipe.STAGES})
    candidates = recipe.Candidates((40, 40, 3), recipe.stages, recipe.heads, None, recipe.PARAMETERS, 3.0, 5)
    for chosen in (recipe.choice(0), trees, recipe.choice(recipe.STAGES)):
        count = candidates.built(chosen, candidates.width_of(chosen)).count_params()
        assert count == pytest.approx(recipe.PARAMETERS, rel=0.05), chosen


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PACKAGES, reason="needs the packages of recipes/requirements-data.txt")
def test_quick_runs(recipe, monkeypatch, tmp_path):
    recipe = recipe("search_faces")
    monkeypatch.setattr(sys, "argv", ["search_faces", "--quick"])
    recipe.main()
    folder = tmp_path / "runs" / "search_faces-quick"
    assert {p.name for p in folder.glob("*.png")} == {"front.png", "results.png"}
    assert list((folder / "logs").rglob("events*"))
