"""Whether colors of tasks can be told apart, by the distance in OKLab of what eyes of each kind see."""

import numpy as np
import pytest

from keras_mtl._colors import COLORS, task_colors

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
EYES = {
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Ottosson (2020).
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def lab(colors, eyes):
    rgb = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(EYES[eyes]), 0, 1)
    return np.cbrt(seen @ np.transpose(TO_CONES)) @ np.transpose(TO_LAB)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize(("tasks", "least"), [(2, 0.2), (14, 0.075)])  # about 0.02 is just noticed
def test_colors_can_be_told_apart(tasks, least, eyes):
    seen = lab(list(task_colors(map(str, range(tasks))).values()), eyes)
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    assert distances[np.triu_indices(tasks, 1)].min() > least


def test_colors_show_on_white():
    assert max(lab(COLORS, "all cones")[:, 0]) < 0.83  # lightness, 1 is white


def test_a_fifteenth_task_has_the_first_color():
    assert task_colors(map(str, range(15)))["14"] == COLORS[0]
