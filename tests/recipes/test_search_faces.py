"""The searches on faces: few marks, candidates of one size, workers, and quick runs of it all."""

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
    data = recipe.marked_faces({})
    pictures, labels = data["train"]
    assert pictures.shape == (400, 40, 40, 3)
    whole = {place: np.isnan(labels[place]).sum(axis=1) for place in recipe.PLACES}
    assert {place: set(gaps) for place, gaps in whole.items()} == {"eyes": {0, 4}, "nose": {0, 2}, "corners": {0, 4}}
    marks = sum((gaps == 0).astype(int) for gaps in whole.values())
    assert (marks[:300] == 1).all() and (marks[300:] == 0).all()
    assert not any(np.isnan(data["test"][1][place]).any() for place in recipe.PLACES)


def problem_of(recipe, monkeypatch, name):
    """A problem on pictures of noise."""
    rng, sizes = np.random.default_rng(0), recipe.CLASSES | recipe.ATTRIBUTES

    def drawn(tasks, splits, side=64):
        def some(n):
            labels = {task: rng.integers(sizes[task], size=n) for task in tasks if task != "landmarks"}
            return rng.random((n, side, side, 3), dtype="float32"), {**labels, "landmarks": rng.random((n, 10))}

        data = {split: some(40) for split in ("train", "validation", "test")}
        return {split: (x, {task: y[task] for task in tasks}) for split, (x, y) in data.items()}

    monkeypatch.setattr(recipe, "drawn_faces", drawn)
    return recipe.PROBLEMS[name](True, 2, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("kinds", 20_000), ("attributes", 40_000)])
def test_candidates_have_one_number_of_parameters(recipe, monkeypatch, name, size):
    recipe = recipe("search_faces")
    problem = problem_of(recipe, monkeypatch, name)
    kinds = [list(recipe.CLASSES), list(recipe.PLACES)]
    trees = SharingChoice("branched_sharing", {"branches": [kinds] * recipe.STAGES})
    other = trees if name == "kinds" else SharingChoice("cross_stitch", {})
    for chosen in (recipe.choice(0), other, recipe.choice(recipe.STAGES)):
        assert problem.model(chosen).count_params() == pytest.approx(size, rel=0.05), chosen


@pytest.mark.slow
def test_a_search_on_workers_is_read_from_what_the_chief_left(recipe, monkeypatch, tmp_path):
    """The chief's part is played in this process."""
    recipe = recipe("search_faces")
    problem = problem_of(recipe, monkeypatch, "attributes")
    problem.parameters = 4000

    def launch(command, workers, logs):
        assert command[2:] == ["--workers", "2"] and workers == 2
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")  # the name that the chief's files have
        recipe.search(problem, tmp_path, 0, [])
        monkeypatch.delenv("KERASTUNER_TUNER_ID")

    monkeypatch.setattr(recipe.tuning, "launch", launch)
    tuner = recipe.search(problem, tmp_path, 2, ["--workers", "2"])
    assert sorted(t.trial_id for t in tuner.oracle.get_best_trials(9)) == ["0", "1"]
    assert len(recipe.tuning.pareto_front(tuner).trials) == 2


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PACKAGES, reason="needs the packages of recipes/requirements-data.txt")
def test_quick_runs(recipe, monkeypatch, tmp_path):
    recipe = recipe("search_faces")
    monkeypatch.setattr(sys, "argv", ["search_faces", "--quick"])
    recipe.main()
    folder = tmp_path / "runs" / "search_faces-quick" / "kinds"
    assert {p.name for p in folder.glob("*.png")} == {"front.png", "results.png"}
    assert list((folder / "logs").rglob("events*"))
