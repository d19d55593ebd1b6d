"""The recipe of the starved task, and that of the task-wise stopping, with its generated faces."""

import importlib
import importlib.util
import sys

import numpy as np
import pytest

from recipes.data import generated_faces as faces

HAS_FACES = all(importlib.util.find_spec(name) for name in ("python_avatars", "resvg_py", "PIL"))


@pytest.mark.slow
def test_quick_stopping(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["task_wise_stopping", "--quick"])
    recipe("task_wise_stopping").main()
    folder = tmp_path / "runs" / "task_wise_stopping-quick"
    assert (folder / "results.png").exists() and list(folder.glob("logs/*/seed0/landmarks/*"))


@pytest.mark.slow
@pytest.mark.skipif(not HAS_FACES, reason="needs the packages of recipes/requirements-data.txt")
def test_quick_dashboards(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["starved_task", "--quick"])
    recipe("starved_task").main()
    folder = tmp_path / "runs" / "starved_task-quick"
    assert (folder / "results.png").exists()
    assert sorted(path.name for path in (folder / "board").iterdir()) == [
        "balanced",
        "balanced_one_stage",
        "standardized",
        "together",
    ]
    assert list(folder.glob("board/together/smile/*"))


def test_generated_faces_are_those_of_their_seed():
    pictures, labels = faces.generated_faces(40, (0, 1))
    again, _ = faces.generated_faces(40, (0, 1))
    other, _ = faces.generated_faces(40, (0, 2))
    assert pictures.shape == (40, faces.SIDE, faces.SIDE, 1) and labels["landmarks"].shape == (40, 10)
    np.testing.assert_array_equal(pictures, again)
    assert np.abs(pictures - other).mean() > 0.05
    assert len({picture.mean().round(6) for picture in pictures}) == 40  # each has its own light


def test_attributes_go_with_the_landmarks():
    """A turned head moves the nose to the side between the eyes; a smile lifts the corners of the mouth."""
    _, labels = faces.generated_faces(2000, 0)
    points = labels["landmarks"].reshape(-1, 5, 2)
    middle, width = points[:, :2].mean(1), np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
    aside = (points[:, 2, 0] - middle[:, 0]) / width
    by_pose = [aside[labels["pose"] == pose].mean() for pose in range(faces.POSES)]
    assert np.all(np.diff(by_pose) > 0.05)
    drop = (points[:, 3:, 1].mean(1) - middle[:, 1]) / width
    assert drop[labels["smile"] == 1].mean() < drop[labels["smile"] == 0].mean() - 0.05


def test_landmarks_are_where_the_picture_has_dark_eyes():
    pictures, labels = faces.generated_faces(500, 3)
    places = ((labels["landmarks"].reshape(-1, 5, 2)[:, :2] + 1) / 2 * faces.SIDE).astype(int).clip(0, faces.SIDE - 1)
    rows = np.arange(500)
    at_eyes = np.mean([pictures[rows, places[:, eye, 1], places[:, eye, 0], 0] for eye in (0, 1)])
    between = (places[:, 0] + places[:, 1]) // 2
    assert at_eyes < pictures[rows, between[:, 1], between[:, 0], 0].mean() - 0.15
