"""The search recipe: its problem is what it says, its candidates have one size, and it finds what was planted."""

import numpy as np
import pytest


def test_tasks_read_the_same_four_directions_and_no_two_combinations_serve_all(recipe):
    """By the slopes of the labels, of which the linear part shows at so many examples."""
    recipe = recipe("search_sharing")
    recipe.EXAMPLES = {"train": 0, "validation": 50_000}
    x, labels = recipe.planted_data(0)["validation"]
    slopes = np.stack([(x * y).mean(axis=0) for y in labels.values()])
    assert slopes.shape == (recipe.TASKS, recipe.INPUTS)
    values = np.linalg.svd(slopes, compute_uv=False)
    assert values[recipe.DIRECTIONS] < 0.05 * values[0]  # a fifth direction is noise of the means
    assert values[recipe.UNITS] > 0.15 * values[0]  # a third one is not


def test_only_training_labels_are_noisy(recipe):
    recipe = recipe("search_sharing")
    noisy = recipe.planted_data(3)
    recipe.NOISE = 0.0
    clean = recipe.planted_data(3)
    for task, y in clean["train"][1].items():
        assert np.std(noisy["train"][1][task] - y) == pytest.approx(0.2, rel=0.2)
    np.testing.assert_array_equal(noisy["validation"][1]["t0"], clean["validation"][1]["t0"])


@pytest.mark.slow
def test_candidates_have_one_number_of_parameters(recipe):
    recipe = recipe("search_sharing")
    from keras_mtl.tuning import SharingChoice

    choices = [SharingChoice("hard_sharing", {"shared_depth": depth}) for depth in (0, 2, 4)]
    choices.append(SharingChoice("cross_stitch", {}))
    for chosen in choices:
        count = recipe.FACE_MODELS.model(chosen).count_params()
        assert count == pytest.approx(40_000, rel=0.05), chosen


@pytest.mark.slow
def test_the_planted_depth_is_found(recipe, tmp_path):
    """One seed of the five of the recipe, with fewer trials."""
    recipe = recipe("search_sharing")
    (best, *_) = recipe.planted([0], 10, tmp_path)[0]
    assert best[0] == recipe.PLANTED


@pytest.mark.slow
def test_a_search_on_workers_is_read_from_what_the_chief_left(recipe, monkeypatch, tmp_path):
    """The chief's part is played in this process, with pictures of noise."""
    recipe = recipe("search_sharing")
    rng = np.random.default_rng(0)
    split = (
        rng.random((40, 32, 32, 3), dtype="float32"),
        {task: rng.integers(classes, size=40) for task, classes in recipe.FACES.items()},
    )
    data = {"train": split, "validation": split}
    monkeypatch.setattr(recipe.FACE_MODELS, "parameters", 4000)

    def launch(command, workers, logs):
        assert command[2:] == ["--workers", "2"] and workers == 2
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")  # the name that the chief's files have
        baselines = recipe.baseline_means(recipe.FACE_MODELS, data, recipe.METRICS, tmp_path, epochs=1)
        recipe.face_tuner(baselines, 2, tmp_path).search(*split, epochs=1, validation_data=split, verbose=0)
        monkeypatch.delenv("KERASTUNER_TUNER_ID")

    monkeypatch.setattr(recipe.tuning, "launch", launch)
    tuner = recipe.search_faces(data, 1, 2, tmp_path, 2, ["--workers", "2"])
    assert sorted(t.trial_id for t in tuner.oracle.get_best_trials(9)) == ["0", "1"]
    assert len(recipe.tuning.pareto_front(tuner).trials) == 2
