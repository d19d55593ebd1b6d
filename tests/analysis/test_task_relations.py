"""Relations of labels: against SciPy's own statistics, with gaps, and what is refused."""

import numpy as np
import pytest
from scipy import stats

from keras_mtl.analysis import task_relations


@pytest.fixture(scope="module")
def labels():
    rng = np.random.default_rng(0)
    size = rng.normal(size=400)
    return {
        "size": size,
        "weight": size + rng.normal(size=400),
        "big": (size > 0.5).astype("int64"),
        "shape": (np.digitize(size, [-0.5, 0.5]) + rng.integers(0, 2, 400)) % 3,
        "place": np.stack([size + rng.normal(size=400), rng.normal(size=400)], axis=1),
        "noise": rng.choice(list("xyz"), 400),
    }


@pytest.mark.oracle
def test_textbook_statistics(labels):
    found = task_relations(labels, adjust=False).association
    assert found.of("size", "weight") == pytest.approx(abs(stats.pearsonr(labels["size"], labels["weight"])[0]))
    table = stats.contingency.crosstab(labels["big"], labels["shape"]).count
    cramer = stats.contingency.association(table, method="cramer")
    assert found.of("big", "shape") == found.of("shape", "big") == pytest.approx(cramer)
    groups = [labels["weight"][labels["shape"] == c] for c in range(3)]
    between = sum(len(g) * (g.mean() - labels["weight"].mean()) ** 2 for g in groups)
    eta = np.sqrt(between / ((labels["weight"] - labels["weight"].mean()) ** 2).sum())
    assert found.of("shape", "weight") == pytest.approx(eta)
    design = np.c_[np.ones(400), labels["place"]]
    fitted = design @ np.linalg.lstsq(design, labels["size"], rcond=None)[0]
    assert found.of("place", "size") == pytest.approx(np.corrcoef(fitted, labels["size"])[0, 1])


@pytest.mark.oracle
def test_adjustment_is_that_of_r_squared(labels):
    plain = task_relations(labels, adjust=False).association.of("place", "size") ** 2
    adjusted = 1 - (1 - plain) * (400 - 1) / (400 - 2 - 1)
    assert task_relations(labels).association.of("place", "size") ** 2 == pytest.approx(adjusted)


def test_signs_kinds_and_chance(labels):
    relations = task_relations({**labels, "small": 1 - labels["big"]})
    assert relations.kinds == {
        "size": "number",
        "weight": "number",
        "big": "class",
        "shape": "class",
        "place": "vector",
        "noise": "class",
        "small": "class",
    }
    assert relations.correlation.of("big", "small") == pytest.approx(-1.0)
    assert relations.association.of("big", "small") == pytest.approx(1.0)
    assert np.isnan(relations.correlation.of("shape", "noise"))
    others = [relations.association.of("noise", task) for task in labels if task != "noise"]
    assert max(others) < 0.12


def test_chance_is_taken_off():
    """Sixteen by fourteen classes drawn at random: Cramer's V of 200 examples is far from 0."""
    values = {True: [], False: []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y = {"a": rng.integers(0, 16, 200), "b": rng.integers(0, 14, 200)}
        for adjust, found in values.items():
            found.append(task_relations(y, adjust=adjust).association.of("a", "b"))
    assert np.mean(values[False]) > 0.25 and np.mean(values[True]) < 0.06


def test_missing_labels(labels):
    y = {task: labels[task].copy() for task in ("size", "weight", "big", "place")}
    y["size"][:100] = np.nan
    y["big"][200:] = -1
    y["place"][50:150, 1] = np.nan
    relations = task_relations(y, missing={"size": "nan", "big": -1, "place": "nan"})
    assert relations.overlap.tolist() == [
        [300, 300, 100, 250],
        [300, 400, 200, 300],
        [100, 200, 200, 100],
        [250, 300, 100, 300],
    ]
    assert relations.shared[0, 2] == pytest.approx(100 / 400)
    part = {task: labels[task][100:200] for task in ("size", "big")}
    assert relations.association.of("size", "big") == pytest.approx(task_relations(part).association.of("size", "big"))
    assert "25%" in str(relations)


def test_labels_that_never_meet_or_never_change():
    y = {
        "a": np.r_[np.arange(5.0), np.full(5, np.nan)],
        "b": np.r_[np.full(5, np.nan), np.arange(5.0)],
        "c": np.ones(10, int),
    }
    relations = task_relations(y)
    assert np.isnan(relations.association.of("a", "b")) and relations.overlap[0, 1] == 0
    assert np.isnan(relations.association.of("a", "c"))
    assert "–" in str(relations)


def test_bad_input(labels):
    with pytest.raises(ValueError, match="two tasks or more"):
        task_relations({"a": labels["size"]})
    with pytest.raises(ValueError, match="'b': 3"):
        task_relations({"a": np.zeros(4), "b": np.zeros(3)})
    with pytest.raises(ValueError, match="Task 'id' should have at most 50 classes"):
        task_relations({"id": np.arange(400), "size": labels["size"]})
    assert (
        task_relations({"id": np.arange(400), "size": labels["size"]}, kinds={"id": "number"}).kinds["id"] == "number"
    )
    with pytest.raises(ValueError, match="kind of task 'size'"):
        task_relations(labels, kinds={"size": "vector"})
    with pytest.raises(ValueError, match="keys of `missing`"):
        task_relations(labels, missing={"x": -1})
    with pytest.raises(ValueError, match="finite numbers"):
        task_relations({"a": np.array([1.0, np.inf, 2.0]), "b": np.arange(3.0)})
