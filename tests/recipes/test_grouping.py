"""The recipes of task grouping: their data and what they count."""

import numpy as np

from keras_mtl.analysis import Affinity, Grouping
from recipes.data import qm9, yeast


def test_planted_groups(recipe):
    recipe = recipe("grouping_study")
    for kind in recipe.UNITS:
        x, y = recipe.make_data(kind, 0)
        assert list(y) == recipe.TASKS and x.shape == (recipe.EXAMPLES, recipe.INPUTS)
        table = np.abs(np.corrcoef([labels[:, 0] for labels in y.values()]))
        within = table[:3, :3][np.triu_indices(3, 1)]
        assert within.min() > 0.4 if kind == "sums" else within.max() < 0.1
        assert table[:3, 3:].max() < 0.1  # groups have nothing in common
    assert recipe.found(Grouping(recipe.GROUPS)) and not recipe.found(Grouping([recipe.TASKS]))
    home = np.arange(6) // 3
    values = np.where(home[:, None] == home, 0.5, -0.1)
    assert np.isclose(recipe.contrast(Affinity(recipe.TASKS, values)), 5.0)


def test_labels_of_yeast_are_tasks(recipe, monkeypatch):
    recipe = recipe("task_grouping")
    rng = np.random.default_rng(0)
    arrays = {"inputs": rng.normal(size=(2417, 103)), "labels": rng.integers(0, 2, (2417, 14)).astype("float32")}
    splits = yeast.yeast(arrays=arrays)
    monkeypatch.setattr(recipe.yeast, "yeast", lambda: splits)
    problem = recipe.yeast_labels()
    assert list(problem.metrics) == [f"label_{i}" for i in range(14)]
    (x, y), (test_x, _) = problem.train, problem.test
    assert x.shape == (1500, 103) and len(test_x) == 917
    np.testing.assert_array_equal(y["label_13"][:, 0], splits["train"][1][:, 13])
    assert problem.build(["label_0", "label_13"]).tasks == ("label_0", "label_13")


def test_targets_of_molecules_are_standardized_by_training_molecules(recipe, monkeypatch):
    recipe = recipe("task_grouping")
    rng = np.random.default_rng(0)

    def molecules(rows, width):
        def some(count):
            return rng.normal(size=(count, 5 + width)), {t: rng.normal(3, 7, (count, 1)) for t in qm9.TASKS}

        return {split: some(count) for split, count in rows.items()}

    monkeypatch.setattr(recipe.qm9, "qm9", molecules)
    problem = recipe.qm9_targets()
    assert list(problem.metrics) == list(qm9.TASKS)
    for labels in problem.train[1].values():
        assert abs(labels.mean()) < 1e-4 and abs(labels.std() - 1) < 1e-4
    test = problem.test[1]["u0"]
    assert 1e-4 < abs(test.mean()) < 0.1  # by the training molecules' mean, not its own
    assert problem.build(["mu", "cv"]).tasks == ("mu", "cv")


def test_hidden_attributes_of_faces_do_not_count(recipe, monkeypatch):
    recipe = recipe("task_grouping")
    rng = np.random.default_rng(0)

    def pictures(tasks, rows, side):
        def some(count):
            labels = {t: rng.integers(-1, 3, count) for t in tasks if t != "landmarks"}
            return rng.random((count, side, side, 3)), {"landmarks": rng.random((count, 10)), **labels}

        return {split: some(count) for split, count in rows.items()}

    monkeypatch.setattr(recipe.faces, "drawn_faces", pictures)
    problem = recipe.face_tasks(quick=True)
    assert len(recipe.face_tasks().metrics) == 14
    x, y = problem.train
    assert x.shape == (100, 32, 32, 3) and problem.metrics["landmarks"] == "loss"
    model = problem.build(["landmarks", "skin"])
    values = model.evaluate(x, {t: y[t] for t in model.tasks}, return_dict=True, verbose=0)
    answers = model.predict(x, verbose=0)["skin"].argmax(axis=1)
    known = y["skin"] >= 0
    assert np.isclose(values["skin_accuracy"], (answers == y["skin"])[known].mean())
