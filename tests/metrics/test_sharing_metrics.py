"""Gate utilization, dead experts and unit drift, by hand."""

import numpy as np
import pytest

from keras_mtl.metrics import dead_experts, gate_utilization, unit_drift


@pytest.mark.parametrize("count", [1, 2, 5])
def test_utilization_between_one_and_all(count):
    assert gate_utilization(np.full(count, 1 / count)) == pytest.approx(1.0)
    assert gate_utilization(np.eye(count)[0]) == pytest.approx(1 / count)


def test_utilization_by_hand():
    # The entropy of (1/2, 1/4, 1/4) is 1.5 bits: 2 ** 1.5 of 3 experts; the sum does not matter.
    assert gate_utilization([2.0, 1.0, 1.0]) == pytest.approx(2**1.5 / 3)


def test_dead_experts_of_gates_that_reach_different_ones():
    nan = float("nan")
    # An equal share is 1/2 for the first gate, 1/3 for the second: the limits are 0.05 and 0.0333.
    gates = [[0.96, nan, 0.04], [0.0, 0.966, 0.034]]
    assert dead_experts(gates) == []
    assert dead_experts([gates[0], [0.0, 0.967, 0.033]]) == [2]
    assert dead_experts(gates, dead_below=0.15) == [2]


def test_drift_by_hand():
    assert unit_drift([[0.9, 0.4], [0.1, 0.1]], [[0.9, 0.0], [0.1, 0.4]]) == pytest.approx(0.25)  # 3, 4, 5, over 2


def test_refuse_bad_input():
    with pytest.raises(ValueError, match="vector"):
        gate_utilization([0.0, 0.0])
    with pytest.raises(ValueError, match="vector"):
        gate_utilization([1.0, -0.1])
    with pytest.raises(ValueError, match=r"\(2,\)"):
        unit_drift([0.1, 0.2], [0.1])
