import numpy as np
import pytest

from recipes import common


def test_delta_m_by_hand():
    baseline = {"accuracy": [0.8, 0.8], "error": [2.0, 4.0]}  # means 0.8 and 3
    scores = {"accuracy": [0.84, 0.76], "error": [2.7, 3.0]}  # gains 5 and -5, 10 and 0 percent
    np.testing.assert_allclose(common.delta_m(scores, baseline, lower_is_better={"error"}), [7.5, -2.5])


def test_mean_and_spread():
    assert common.mean_and_spread([1.0, 3.0]) == "2.0 ± 1.4"
    assert common.mean_and_spread([1.0, 3.0], digits=2, signed=True) == "+2.00 ± 1.41"
    assert common.mean_and_spread([5.0]) == "5.0"  # one seed has no spread


@pytest.mark.parametrize(("shift", "expected"), [(0.0, False), (1.6, False), (1.7, True), (-1.7, True)])
def test_beyond_noise(shift, expected):
    # Both have variance 1 over 3 seeds: a standard error of sqrt(2 / 3) = 0.816, twice that is 1.633.
    seeds = np.array([-1.0, 0.0, 1.0])
    assert common.beyond_noise(seeds + shift, seeds) is expected


def test_output_folder_drops_old_logs_and_keeps_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = common.output_folder("a")
    (folder / "logs").mkdir()
    (folder / "logs" / "old").touch()
    (folder / "kept.png").touch()
    assert [path.name for path in common.output_folder("a").iterdir()] == ["kept.png"]
