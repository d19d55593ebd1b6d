import importlib.util

import numpy as np
import pytest

from recipes.data import faces

HAS_PACKAGES = all(importlib.util.find_spec(name) for name in ("python_avatars", "resvg_py", "PIL"))


def test_landmarks_of_an_upright_face_are_where_they_are_drawn():
    points = faces.landmarks(angle=0.0, scale=1.0, shift=np.zeros(2))
    np.testing.assert_allclose(points * faces.SHOWN + (faces.LEFT, faces.TOP), faces.LANDMARKS)


def test_landmarks_turn_clockwise_as_the_drawing_does():
    eyes = faces.landmarks(angle=90.0, scale=2.0, shift=np.zeros(2))[:2] * faces.SHOWN + (faces.LEFT, faces.TOP)
    # The left eye is 26 to the left of the center and 8 above it: turned, 8 to the right and 26 above.
    np.testing.assert_allclose(eyes[0], np.add(faces.CENTER, (2 * 8, -2 * 26)))


@pytest.mark.skipif(not HAS_PACKAGES, reason="needs the packages of recipes/requirements-data.txt")
def test_a_seed_makes_a_face():
    picture, labels, points = faces.render((0, 3))
    again, *_ = faces.render((0, 3))
    assert picture.shape == (faces.SIDE, faces.SIDE, 3) and picture.std() > 10
    assert len(labels) == len(faces.ATTRIBUTES) and points.shape == (10,)
    np.testing.assert_array_equal(picture, again)


def test_splits_follow_each_other_and_pictures_are_made_smaller(monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), "uint8")
    monkeypatch.setattr(faces, "cached", lambda cache, name, read: {"pictures": pictures, "smile": np.arange(5)})
    whole, half = (faces.drawn_faces(("smile",), {"train": 2, "test": 3}, side) for side in (64, 32))
    assert whole["test"][0].shape == (3, 64, 64, 3) and half["test"][0].shape == (3, 32, 32, 3)
    np.testing.assert_allclose(half["test"][0][1, 0, 3], pictures[3, :2, 6:8].mean(axis=(0, 1)) / 255, rtol=1e-5)
    assert half["train"][1]["smile"].tolist() == [0, 1] and half["test"][1]["smile"].tolist() == [2, 3, 4]
