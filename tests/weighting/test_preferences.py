"""Preferences of tasks: against TorchJD 0.18's numbers, by hand, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import weighting as W
from tests.weighting.test_pcd import SEQUENCE

PREFERENCE = [0.5, 0.3, 0.2]
# Weights of TorchJD 0.18.0 for the matrices of SEQUENCE, with a projector without regularization (reg_eps=1e-12).
UPGRAD = [
    [0.5, 0.30118313460289625, 33.20685714963469],
    [0.5, 0.3, 0.2],
    [3.705151757376548, 0.3010523567979387, 0.2],
    [5.301495649565494, 0.3150496733514705, 0.2],
]
DUALPROJ = [
    [0.5, 0.3, 32.87425374577713],
    [0.5, 0.3, 0.2],
    [3.1522254103227363, 0.3, 0.2],
    [4.773399762063347, 0.3, 0.2],
]
# CRMOGMWeighting(UPGradWeighting(...), alpha=0.7)
CR_MOGM = [
    [0.3333333333333333, 0.3353052243381604, 37.00761905514966],
    [0.33333333333333304, 0.3347136570367123, 26.005333338604764],
    [1.4017172524588493, 0.33451003128528634, 18.303733337023335],
    [2.681700626576359, 0.3371669565699945, 12.912613335916333],
]
LOSSES = [[0.7, 1.9, 0.4], [2.0, 0.1, 0.3]]
# Derivatives of PBI(5.0, PREFERENCE, reference 0.1) and of COSMOS(2.0, PREFERENCE).
PBI = [
    [-1.5287911784943806, 4.850258360857838, -0.37120259356631596],
    [3.6975317127944693, -3.289847227007603, -1.2268514399902821],
]
COSMOS = [
    [-0.027666880535249794, 0.5295166431419058, 0.033212986012634366],
    [0.5508049191511792, -0.1380947259113221, 0.007332114295912767],
]
TASKS = ["a", "b", "c"]
BY_NAME = {"b": 3, "c": 2, "a": 5}  # relative, and in another order
METHODS = [W.STCH, W.UPGrad, W.DualProj, W.PBI, W.COSMOS]


@pytest.mark.oracle
@pytest.mark.parametrize(("make", "expected"), [(W.UPGrad, UPGRAD), (W.DualProj, DUALPROJ)], ids=["upgrad", "dualproj"])
def test_projections_with_a_preference(make, expected):
    for jacobian, weights in zip(SEQUENCE, expected, strict=True):
        found = make(preference=PREFERENCE).solve(jacobian @ jacobian.T)
        np.testing.assert_allclose(found, weights, rtol=1e-5)


@pytest.mark.oracle
def test_a_moving_average_of_a_solvers_weights():
    weighting = W.UPGrad(smoothing=0.7)
    weighting.build((3,))
    for jacobian, expected in zip(SEQUENCE, CR_MOGM, strict=True):
        weights = weighting(np.ones(3), gramian=jacobian @ jacobian.T)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_the_average_of_an_absent_task_stays():
    weighting, plain = W.UPGrad(smoothing=0.5, reduction="sum"), W.UPGrad(reduction="sum")
    for each in (weighting, plain):
        each.build((3,))
    gramians = [jacobian @ jacobian.T for jacobian in SEQUENCE]
    two, all_ = np.array([1, 0, 1], "float32"), np.ones(3, "float32")
    first = weighting(all_, present=two, gramian=gramians[0]).numpy()
    np.testing.assert_allclose(first, plain(all_, present=two, gramian=gramians[0]), rtol=1e-6)
    second, new = (w(all_, gramian=gramians[2]).numpy() for w in (weighting, plain))
    np.testing.assert_allclose(second, [0.5 * (first[0] + new[0]), new[1], 0.5 * (first[2] + new[2])], rtol=1e-5)
    weighting.reset_state()
    np.testing.assert_allclose(weighting(all_, gramian=gramians[2]), new, rtol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        (lambda: W.PBI(theta=5.0, preference=PREFERENCE, reference=0.1), PBI),
        (lambda: W.COSMOS(lam=2.0, preference=PREFERENCE), COSMOS),
    ],
    ids=["pbi", "cosmos"],
)
def test_scalarizations_derivatives(weighting, expected):
    weighting = weighting()
    weighting.build((3,))
    for losses, weights in zip(LOSSES, expected, strict=True):
        np.testing.assert_allclose(weighting(losses), weights, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("make", METHODS, ids=lambda m: m.__name__)
def test_names_and_ratios_say_the_same_as_a_list(make):
    named, listed = make(preference=BY_NAME), make(preference=PREFERENCE)
    arguments = {"losses": np.array([0.7, 1.9, 0.4], "float32"), "present": np.array([1, 0, 1], "float32")}
    for weighting in (named, listed):
        weighting.set_tasks(TASKS, ["regression"] * 3)
        weighting.build((3,))
    found = [w(**arguments, gramian=SEQUENCE[0] @ SEQUENCE[0].T).numpy() for w in (named, listed)]
    np.testing.assert_allclose(*found, rtol=1e-6)
    again = W.deserialize(W.serialize(named))
    assert again.preference == BY_NAME


@pytest.mark.parametrize("make", METHODS, ids=lambda m: m.__name__)
def test_a_preference_that_is_none_is_refused(make):
    for bad in ([-1.0, 2.0], {"a": 1.0, "b": -0.5}, [0, 0], {"a": 0.0, "b": 0.0}, 0.5, "ab", [np.nan, 1.0], []):
        with pytest.raises(ValueError, match="`preference` should be "):
            make(preference=bad)
    for bad in ({"a": 1.0}, {"a": 1.0, "b": 2.0, "d": 1.0}):
        with pytest.raises(ValueError, match=r"`preference` should have one number for each of the tasks \['a', 'b'"):
            make(preference=bad).set_tasks(TASKS, ["regression"] * 3)
    with pytest.raises(ValueError, match="`preference` should have one value for each of 3 tasks"):
        make(preference=[1.0, 2.0]).build((3,))


def test_compile_refuses_a_preference_of_other_tasks():
    model = keras_mtl.hard_sharing(keras.Input((2,)), [keras.layers.Dense(2)], {t: keras.layers.Dense(1) for t in "ab"})
    with pytest.raises(ValueError, match=r"`preference` should have one number for each of the tasks \['a', 'b'\]"):
        model.compile("sgd", loss="mse", weighting=W.UPGrad(preference={"a": 1.0, "c": 1.0}))
    with pytest.raises(ValueError, match=r"`primary` should be one of the tasks \['a', 'b'\]"):
        model.compile("sgd", loss="mse", weighting=W.PCD(primary="c"))


def descend(weighting, losses_and_slopes, rate=0.05, steps=300):
    """Plain gradient descent with a weighting's weights, in NumPy but for these. The rate falls to a hundredth."""
    weighting.build((2,))
    weigh = tf.function(weighting.task_weights, autograph=False)
    point, present = np.array([0.3, 0.2]), tf.ones(2)
    for step in range(steps):
        losses, slopes = losses_and_slopes(point)
        weights = weigh(tf.constant(losses, "float32"), present).numpy()
        point = point - rate * 0.01 ** (step / steps) * weights @ slopes
    return losses_and_slopes(point)[0]


def convex(point):
    """Squared distances from (0, 0) and (1, 0): on the front sqrt(L1) + sqrt(L2) = 1."""
    away = point - np.array([[0.0, 0.0], [1.0, 0.0]])
    return (away**2).sum(axis=1), 2 * away


def concave(point):
    """1 - exp(-squared distance) from two points: a front that bends away from the ideal point."""
    away = point - np.array([[-0.7, -0.7], [0.7, 0.7]])
    fall = np.exp(-(away**2).sum(axis=1))
    return 1 - fall, 2 * away * fall[:, None]


RATIOS = [(1, 9), (3, 7), (5, 5), (7, 3), (9, 1)]


@pytest.mark.parametrize("toy", [convex, concave], ids=lambda f: f.__name__)
def test_every_preference_reaches_its_own_part_of_the_front(toy):
    for first, second in RATIOS:
        losses = descend(W.PBI(preference=[first, second]), toy)
        np.testing.assert_allclose(losses[0] / losses.sum(), first / 10, atol=0.02)
        if toy is convex:
            np.testing.assert_allclose(np.sqrt(losses).sum(), 1.0, atol=0.02)
        else:  # between the two points: distances from them add up to theirs
            np.testing.assert_allclose(np.sqrt(-np.log(1 - losses)).sum(), 1.4 * np.sqrt(2), atol=0.02)


def test_a_smooth_maximum_reaches_concave_parts_and_a_weighted_sum_does_not():
    for first, second in RATIOS[1:4]:
        # Its largest p * L is smallest where p and L are inverse.
        losses = descend(W.STCH(form="plain", mu=0.02, preference=[second, first]), concave, rate=0.05)
        np.testing.assert_allclose(losses[0] / losses.sum(), first / 10, atol=0.05)
        ends = descend(W.COSMOS(lam=0.0, preference=[first, second]), concave, rate=0.1)
        assert ends.min() < 0.05
    # The cosine takes a weighted sum there as well, if it counts enough.
    for first, second in RATIOS[1:4]:
        losses = descend(W.COSMOS(lam=4.0, preference=[first, second]), concave, rate=0.02)
        np.testing.assert_allclose(losses[0] / losses.sum(), first / 10, atol=0.05)
