"""The hyper model under each of keras-tuner's tuners."""

import keras_tuner
import pytest

from keras_mtl.tuning import objective
from tests.tuning.searches import BASELINES, Recorder, make, random_search, search


@pytest.mark.slow
class TestTuners:
    def test_reuse_changes_nothing_but_the_tracing(self, tmp_path):
        """Every log of every trial, with an optimizer and a weighting that have state."""
        logs, hits = {}, {}
        for reuse in (0, 4):
            hypermodel = make(
                reuse=reuse,
                sharing={"depths": (1, 2)},
                weighting={"methods": ["uncertainty"], "static": (0.1, 10.0)},
                training={"learning_rate": (1e-3, 1e-1)},
            )
            trials = search(random_search(tmp_path, hypermodel, 5, project_name=str(reuse)), epochs=2)
            logs[reuse] = [
                {name: t.metrics.get_best_value(name) for name in t.metrics.metrics if name != "step_ms"}
                for t in trials
            ]
            hits[reuse] = hypermodel.traced.hits
        assert len({t.hyperparameters.get("hard_sharing/shared_depth") for t in trials}) == 2
        assert hits[0] == 0 and hits[4] >= 3  # a structure is built once more to find the space
        for one, other in zip(*logs.values(), strict=True):
            assert one == pytest.approx(other, rel=1e-5)

    def test_a_traced_model_is_never_handed_out_twice(self, tmp_path):
        hypermodel = make(sharing={"depths": (1, 1)})
        tuner = random_search(tmp_path, hypermodel, 2)
        search(tuner)
        first, second = tuner.get_best_models(2)
        assert first is not second and not {id(v) for v in first.variables} & {id(v) for v in second.variables}

    def test_hyperband_goes_on_with_the_state_of_the_round_before(self, tmp_path):
        tuner = keras_tuner.Hyperband(
            make(weighting={"methods": ["dwa"]}),
            objective(BASELINES),
            max_epochs=2,
            factor=2,
            seed=1,
            directory=tmp_path,
        )
        trials = search(tuner, callbacks=[Recorder()])
        assert {t.status for t in trials} == {"COMPLETED"}
        promoted = [t for t in trials if "tuner/trial_id" in t.hyperparameters.values]
        assert promoted
        for trial in promoted:
            model = tuner.load_model(trial)
            assert int(model.optimizer.iterations) == 3 * 2  # an epoch before and one after
        assert tuner.hypermodel.traced.hits > 0

    def test_grid_search_ends_with_every_combination(self, tmp_path):
        hypermodel = make(
            sharing={
                "families": ["hard_sharing", "cross_stitch"],
                "depths": (1, 2),
                "fixed": {"cross_stitch": {"self_weight": 0.9}},
            },
            training={"learning_rate": 0.1},
        )
        tuner = keras_tuner.GridSearch(hypermodel, objective(BASELINES), directory=tmp_path)
        found = [tuple(sorted(t.hyperparameters.values.items())) for t in search(tuner)]
        assert sorted(found) == [
            (("cross_stitch/units", "channel"), ("family", "cross_stitch")),
            (("cross_stitch/units", "layer"), ("family", "cross_stitch")),
            (("family", "hard_sharing"), ("hard_sharing/shared_depth", 1)),
            (("family", "hard_sharing"), ("hard_sharing/shared_depth", 2)),
        ]

    @pytest.mark.filterwarnings("ignore::Warning:sklearn")
    def test_bayesian_optimization(self, tmp_path):
        pytest.importorskip("sklearn")
        tuner = keras_tuner.BayesianOptimization(
            make(), objective(BASELINES), max_trials=3, num_initial_points=2, seed=1, directory=tmp_path
        )
        assert [t.status for t in search(tuner)] == ["COMPLETED"] * 3
