"""The hyper model: what it builds, and what it refuses before any trial."""

import keras
import keras_tuner
import numpy as np
import pytest

import keras_mtl
from keras_mtl.tuning import SharingHyperModel
from tests.tuning.searches import BASELINES, make, make_data, random_search


class TestBuild:
    def test_a_tuner_builds_once_and_knows_the_whole_space(self, tmp_path):
        """keras-tuner would build a model for every condition."""
        hypermodel = make(
            sharing={"families": ["hard_sharing", "mmoe", "soft_sharing"]}, weighting={"methods": ["equal", "dwa"]}
        )
        built = []
        build = hypermodel.build
        hypermodel.build = lambda hp: built.append(1) or build(hp)
        tuner = random_search(tmp_path, hypermodel, 1)
        names = {p.name for p in tuner.oracle.get_space().space}
        assert len(built) == 1 and {"mmoe/experts", "soft_sharing/strength", "dwa/temperature"} <= names

    def test_a_function_that_asks_only_under_some_values_is_asked_under_all(self, tmp_path):
        def sharing(hp):
            if hp.Choice("family", ["hard_sharing", "mmoe"]) == "mmoe":
                with hp.conditional_scope("family", ["mmoe"]):
                    return keras_mtl.tuning.SharingChoice("mmoe", {"experts": hp.Int("experts", 2, 4)})
            with hp.conditional_scope("family", ["mmoe"]):
                pass
            return keras_mtl.tuning.SharingChoice("hard_sharing", {})

        hp = keras_tuner.HyperParameters()
        make(sharing=sharing).declare_hyperparameters(hp)
        assert [p.name for p in hp.space] == ["family", "learning_rate", "experts"]

    def test_trials_share_nothing(self):
        stage = keras.layers.Dense(4)
        delta_m = keras_mtl.metrics.DeltaM(BASELINES)
        metric = keras.metrics.MeanAbsoluteError(name="mae")
        hypermodel = SharingHyperModel(
            keras.Input((3,)),
            [stage],
            {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
            compile={"loss": "mse", "metrics": {"a": [metric]}, "delta_m": delta_m},
        )
        first, second = (hypermodel.build(keras_tuner.HyperParameters()) for _ in range(2))
        assert not {id(v) for v in first.variables} & {id(v) for v in second.variables}
        assert not stage.built and first.compiled_tasks.delta_m is not second.compiled_tasks.delta_m is not delta_m
        metrics = [m.compiled_tasks.task_metrics[0].variables[0] for m in (first, second)]
        assert metrics[0] is not metrics[1]

    def test_pretrained_stages_keep_their_weights(self):
        stage = keras.layers.Dense(4)
        stage.build((None, 3))
        kernel = np.array(stage.kernel)
        for depth, copies in ((1, 1), (0, 2)):
            model = SharingHyperModel(
                keras.Input((3,)),
                [stage],
                {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
                compile={"loss": "mse"},
                sharing={"depths": (depth, depth)},
                copy_weights=True,
            ).build(keras_tuner.HyperParameters())
            kernels = [np.array(v) for v in model.trainable_variables if v.shape == (3, 4)]
            assert len(kernels) == copies
            for found in kernels:
                np.testing.assert_array_equal(found, kernel)

    def test_the_dtype_policy_outlives_the_cleared_session(self, tmp_path):
        keras.config.set_dtype_policy("mixed_bfloat16")
        hypermodel = make(reuse=0)
        keras.utils.clear_session()  # as keras-tuner does before each build
        assert keras.config.dtype_policy().name == "float32"
        model = hypermodel.build(keras_tuner.HyperParameters())
        assert {layer.compute_dtype for layer in model.layers if layer.weights} == {"bfloat16"}

    def test_regularization_and_dropout_reach_every_stage(self):
        hypermodel = make(sharing={"depths": (1, 1)}, training={"l2": (0.5, 0.5), "dropout": (0.25, 0.25)})
        model = hypermodel.build(keras_tuner.HyperParameters())
        kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")]
        penalized = [v for v in kernels if v.regularizer is not None]
        assert len(penalized) == 3 and len(kernels) == 5  # one shared stage, two columns; not the heads
        expected = 0.5 * sum(float(np.sum(np.square(v))) for v in penalized)
        assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
        rates = [s.stack[-1].rate for s in model.layers if hasattr(s, "stack") and len(s.stack) > 1]
        assert rates == [0.25] * 3

    def test_where_nothing_is_shared_gradient_methods_are_equal(self):
        hypermodel = make(sharing={"depths": (0, 1)}, weighting={"methods": ["mgda"], "gradients": ["features"]})
        hp = keras_tuner.HyperParameters()
        found = {}
        for depth in (0, 1):
            hp.values["hard_sharing/shared_depth"] = depth
            found[depth] = type(hypermodel.build(hp).weighting).__name__
        assert found == {0: "Equal", 1: "MGDA"}

    def test_sampler_temperature_reaches_the_data(self, tmp_path):
        x, y = make_data()
        seen = []

        def data(choice):
            seen.append(choice.sampler_temperature)
            import tensorflow as tf

            return tf.data.Dataset.from_tensor_slices((x, y)).batch(16)

        training = {"learning_rate": 0.1, "sampler_temperature": (1.0, 5.0)}
        tuner = random_search(tmp_path, make(training=training, data=data), 1)
        tuner.search(epochs=1, validation_data=(x, y), verbose=0)
        (trial,) = tuner.oracle.trials.values()
        assert seen == [trial.hyperparameters.get("sampler_temperature")]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"compile": {}}, "`compile`.*with `loss`"),
            ({"compile": {"loss": {"a": "mse", "c": "mse"}}}, r"every task of `loss`. Received: no head for \['c'\]"),
            ({"compile": {"loss": "mse", "metrics": {"c": ["mae"]}}}, r"of `metrics`.*\['c'\]"),
            ({"sharing": {"depths": (0, 3)}}, "beyond the number of stages, 2"),
            ({"sharing": {"families": ["hard", "mmoe"]}}, r"`families`.*\['hard'\]"),
            ({"sharing": 3}, "`sharing` should be a dict"),
            ({"compile": {"loss": "mse", "weighting": "dwa"}, "weighting": {}}, r"what is searched.*\['weighting'\]"),
            ({"compile": {"loss": "mse", "optimizer": "sgd"}}, r"what is searched.*\['optimizer'\]"),
        ],
    )
    def test_refuses_before_any_trial(self, options, words):
        with pytest.raises(ValueError, match=words):
            make(**options)
