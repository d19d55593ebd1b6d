"""Weights and directions worked out by other code than ours, and by hand."""

import json
import pathlib

import numpy as np
import pytest

from keras_mtl import weighting as W

CASES = json.loads(pathlib.Path(__file__).with_name("goldens.json").read_text())["cases"]

# Our method, and the relative accuracy of the source: exact formulas, quadratic programs, iterative solvers.
SHARED = {
    "IMTLG": (lambda: W.IMTLG(), 1e-6),
    "AlignedMTL(min)": (lambda: W.AlignedMTL(), 1e-6),
    "AlignedMTL(median)": (lambda: W.AlignedMTL(scale_mode="median"), 1e-6),
    "AlignedMTL(rmse)": (lambda: W.AlignedMTL(scale_mode="rmse"), 1e-6),
    "ConFIG": (lambda: W.ConFIG(), 1e-6),
    "UPGrad(tight)": (lambda: W.UPGrad(), 1e-6),
    "DualProj(tight)": (lambda: W.DualProj(), 1e-6),
    "PCGrad(order=0..m-1)": (lambda: W.PCGrad(order="fixed"), 1e-6),
    "GradVac(order=0..m-1)": (lambda: W.GradVac(order="fixed"), 1e-6),
    "FairGrad(alpha=1)": (lambda: W.FairGrad(alpha=1.0), 1e-6),
    "FairGrad(alpha=2)": (lambda: W.FairGrad(alpha=2.0), 1e-6),
    "NashMTL(max_norm=0)": (lambda: W.NashMTL(max_norm=0), 1e-6),
    "NashMTL(max_norm=1)": (lambda: W.NashMTL(max_norm=1), 1e-6),
    "MGDA(eps=1e-9,1e5)": (lambda: W.MGDA(), 1e-6),
    "CAGrad(c=0.5)": (lambda: W.CAGrad(c=0.5), 5e-4),
    "CAGrad(c=0.4)": (lambda: W.CAGrad(c=0.4), 5e-4),
}


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("method", SHARED)
def test_reference(method, case):
    make, accuracy = SHARED[method]
    jacobian, expected = np.array(case["J"]), case["methods"][method]
    weights = make().solve(jacobian @ jacobian.T).numpy()
    vector = np.array(expected["vector"])
    np.testing.assert_allclose(weights @ jacobian, vector, atol=accuracy * np.abs(vector).max())
    if expected["weights"] is not None:
        np.testing.assert_allclose(weights, expected["weights"], rtol=accuracy)


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_pcgrad_in_the_mean_over_orders(case):
    jacobian = np.array(case["J"])
    gramian, weighting = jacobian @ jacobian.T, W.PCGrad(seed=0)
    mean = np.mean([weighting.solve(gramian) for _ in range(60)], axis=0)
    np.testing.assert_allclose(mean, case["pcgrad_expectation"], rtol=0.05)


# Worked out by hand for the rows (-4, 1, 1) and (6, 1, 1): weights, then the direction.
BY_HAND = [
    (lambda: W.MGDA(), (0.6, 0.4), (0, 1, 1)),
    (lambda: W.CAGrad(c=0.4, rescale=True), (0.5718, 0.4310), (0.2990, 1.0028, 1.0028)),
    (lambda: W.CAGrad(c=0.5, rescale=True), (0.5633, 0.4), (0.1468, 0.9633, 0.9633)),
    (lambda: W.CAGrad(c=0.5), (0.7041, 0.5), (0.1835, 1.2041, 1.2041)),
    (lambda: W.IMTLG(), (0.5923, 0.4077), (0.0767, 1, 1)),
    (lambda: W.NashMTL(max_norm=0), (0.5915, 0.4071), (0.0766, 0.9985, 0.9985)),
    (lambda: W.NashMTL(), (0.4182, 0.2878), (0.0542, 0.7061, 0.7061)),
    (lambda: W.AlignedMTL(), (0.5591, 0.4083), (0.2133, 0.9673, 0.9673)),
    (lambda: W.UPGrad(), (1.1111, 0.7895), (0.2924, 1.9006, 1.9006)),
    (lambda: W.FairGrad(alpha=1), (0.5915, 0.4071), (0.0766, 0.9985, 0.9985)),
    (lambda: W.FairGrad(alpha=2), (0.4714, 0.3195), (0.0313, 0.7908, 0.7908)),
    (lambda: W.PCGrad(), (2.2222, 1.5789), (0.5848, 3.8012, 3.8012)),
    (lambda: W.GradVac(), (2.2222, 1.5789), (0.5848, 3.8012, 3.8012)),
]


@pytest.mark.parametrize(("make", "weights", "direction"), BY_HAND, ids=lambda value: "")
def test_by_hand(make, weights, direction):
    jacobian = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    found = make().solve(jacobian @ jacobian.T).numpy()
    np.testing.assert_allclose(found, weights, atol=6e-5)
    np.testing.assert_allclose(found @ jacobian, direction, atol=2e-4)


def test_gradvac_state_after_one_step():
    weighting = W.GradVac(beta=0.5, order="fixed")
    weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]]))
    np.testing.assert_allclose(weighting.targets, [[0, -0.4206], [-0.4206, 0]], atol=5e-5)
