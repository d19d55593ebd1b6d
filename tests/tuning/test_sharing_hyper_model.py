"""The hyper model under keras-tuner's tuners: trials, failures, checkpoints, reuse."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import typing
import urllib.request
import warnings

import keras
import keras_tuner
import numpy as np
import pytest

import keras_mtl
from keras_mtl.tuning import SharingHyperModel, objective
from keras_mtl.tuning.budget import quick_collections

BASELINES = {"a": {"loss": 1.0}, "b": {"loss": 1.0}}


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 3)).astype("float32")
    return x, {"a": x[:, 0], "b": x[:, 1] ** 2}


def make(**options):
    arguments = {
        "compile": {"loss": "mse", "metrics": {"b": ["mae"]}},
        "training": {"optimizer": "sgd", "learning_rate": (1e-3, 1e-1)},
        "seed": 3,
    }
    stages = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(4, activation="tanh")]
    heads = {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)}
    return SharingHyperModel(keras.Input((3,)), stages, heads, **{**arguments, **options})


def random_search(directory, hypermodel, max_trials, **options):
    return keras_tuner.RandomSearch(
        hypermodel, objective(BASELINES), max_trials=max_trials, seed=1, directory=directory, **options
    )


def search(tuner, epochs=1, **options):
    x, y = make_data()
    tuner.search(x, y, epochs=epochs, batch_size=16, validation_data=(x, y), verbose=0, **options)
    return [trial for _, trial in sorted(tuner.oracle.trials.items())]


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


class NotANumber(keras.callbacks.Callback):
    """Spoils the weights of trials that share a stage."""

    def on_epoch_begin(self, epoch, logs=None):
        if self.model.shared_variables:
            for variable in self.model.trainable_variables:
                variable.assign(variable * np.nan)


class Recorder(keras.callbacks.Callback):
    """State of weighting and optimizer at the end of each epoch; tuners copy callbacks, so it is kept by the class."""

    entries: typing.ClassVar = []

    def on_epoch_end(self, epoch, logs=None):
        self.entries.append((logs["val_a_loss"], self.state_of(self.model)))

    @staticmethod
    def state_of(model):
        return [np.array(v) for v in (*model.weighting.variables, *model.optimizer.variables)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """One search for several tests: trials of depth 1 become NaN, those of depth 0 do not."""
    directory = tmp_path_factory.mktemp("found")
    tuner = random_search(
        directory,
        make(sharing={"depths": (0, 1)}, weighting={"methods": ["uncertainty", "dwa"]}),
        5,
        max_consecutive_failed_trials=5,
    )
    Recorder.entries.clear()
    board = keras.callbacks.TensorBoard(directory / "logs", write_graph=False)
    with warnings.catch_warnings(), quick_collections():
        warnings.simplefilter("ignore")  # of NaN
        search(tuner, epochs=2, callbacks=[NotANumber(), Recorder(), board])
    return tuner, directory / "logs"


class TestSearch:
    def test_a_trial_that_is_not_a_number_fails_and_the_search_goes_on(self, found):
        tuner, _ = found
        trials = [trial for _, trial in sorted(tuner.oracle.trials.items())]
        by_depth = {}
        for trial in trials:
            by_depth.setdefault(trial.hyperparameters.get("hard_sharing/shared_depth"), set()).add(trial.status)
        assert len(trials) == 5 and by_depth == {0: {"COMPLETED"}, 1: {"FAILED"}}
        for trial in trials:
            assert (trial.status == "FAILED") == ("FailedTrialError" in (trial.message or ""))
        assert tuner.oracle.get_best_trials()[0].status == "COMPLETED"

    def test_the_best_model_comes_back_with_weighting_and_optimizer(self, found):
        """Equal to what was there at the end of the best trial's best epoch."""
        tuner, _ = found
        (best,) = tuner.oracle.get_best_trials()
        model = tuner.get_best_models()[0]  # warnings are errors: keras-tuner warns where state is skipped
        score = best.metrics.get_best_value("val_a_loss")
        (state,) = [state for value, state in Recorder.entries if value == pytest.approx(score, rel=1e-6)]
        for now, then in zip(Recorder.state_of(model), state, strict=True):
            np.testing.assert_array_equal(now, then)
        assert any(np.any(np.array(v) != 0) for v in model.weighting.variables)
        assert int(model.optimizer.iterations) == 3 * (best.best_step + 1)
        x, y = make_data()
        assert model.evaluate(x, y, verbose=0, return_dict=True)["a_loss"] == pytest.approx(score, rel=1e-5)
        model.fit(x, y, verbose=0)

    @pytest.mark.filterwarnings("ignore:The loss:UserWarning")
    @pytest.mark.parametrize("policy", ["raise", "skip_step"])
    def test_a_loss_that_is_not_a_number_fails_whatever_the_model_does_about_it(self, policy):
        compile_options = {"loss": "mse", "on_nonfinite": policy, "run_eagerly": True}
        hypermodel = make(compile=compile_options, training={"learning_rate": 0.1})
        hp = keras_tuner.HyperParameters()
        model = hypermodel.build(hp)
        model.trainable_variables[-1].assign([np.nan])
        with pytest.raises(keras_tuner.errors.FailedTrialError, match="finite"):
            hypermodel.fit(hp, model, *make_data(), batch_size=16, verbose=0)

    def test_two_best_models_are_two(self, found):
        first, second = found[0].get_best_models(2)
        assert first is not second and not {id(v) for v in first.variables} & {id(v) for v in second.variables}

    def test_hparams_have_the_whole_space_and_the_tasks_metrics(self, found):
        from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
        from tensorboard.plugins.hparams import metadata

        tuner, logs = found
        runs = EventMultiplexer({}).AddRunsFromDirectory(str(logs)).Reload()

        def content(run, tag):
            return runs.SummaryMetadata(run, tag).plugin_data.content

        experiment = metadata.parse_experiment_plugin_data(content(".", metadata.EXPERIMENT_TAG))
        parameters = {info.name for info in experiment.hparam_infos}
        assert parameters == {"hard_sharing/shared_depth", "weighting", "dwa/temperature", "learning_rate"}
        names = [(info.name.group, info.name.tag) for info in experiment.metric_infos]
        assert names[0] == ("validation", "epoch_delta_m")  # what the search chooses by
        assert {("validation", "epoch_a_loss"), ("train", "epoch_b_mae")} < set(names) and len(set(names)) == len(names)
        for trial in tuner.oracle.trials.values():
            run = f"{trial.trial_id}/execution0"
            start = metadata.parse_session_start_info_plugin_data(content(run, metadata.SESSION_START_INFO_TAG))
            assert set(start.hparams) == set(trial.hyperparameters.values) and start.group_name == trial.trial_id
            if trial.status == "COMPLETED":
                assert {"epoch_a_loss", "epoch_delta_m"} <= set(runs.Runs()[f"{run}/validation"]["tensors"])
                assert {"sharing", "compile"} <= set(runs.Runs()[f"{run}/tasks"]["tensors"])

    @pytest.mark.slow
    def test_tensorboard_serves_every_column_and_row(self, found):
        """HParams over its HTTP API, as a browser asks for it."""
        tuner, logs = found
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        arguments = ["--logdir", str(logs), "--port", str(port), "--host", "127.0.0.1", "--load_fast", "false"]
        server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *arguments])

        def ask(path, **content):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/data/plugin/hparams/{path}",
                json.dumps({"experimentName": "", **content}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)

        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    if "hparamInfos" in (experiment := ask("experiment", includeMetrics=True)):
                        break
                time.sleep(0.3)
            statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
            columns = [{"metric": {"group": "validation", "tag": "epoch_delta_m"}}]
            rows = ask("session_groups", allowedStatuses=statuses, colParams=columns, startIndex=0, sliceSize=100)
        finally:
            server.terminate()
            server.wait()
        names = {info["name"] for info in experiment["hparamInfos"]}
        assert names == {"hard_sharing/shared_depth", "weighting", "dwa/temperature", "learning_rate"}
        assert rows["totalSize"] == len(tuner.oracle.trials)
        for row in rows["sessionGroups"]:
            trial = tuner.oracle.trials[row["name"]]
            assert set(row["hparams"]) == set(trial.hyperparameters.values)
            values = {m["name"]["tag"]: m["value"] for m in row["metricValues"] if m["name"]["group"] == "validation"}
            if trial.status == "COMPLETED":
                last = values["epoch_delta_m"]
                assert last == pytest.approx(trial.score, rel=1e-4) or last < trial.score  # the last epoch's

    def test_the_front_holds_what_no_trial_beats(self, found, tmp_path):
        tuner, _ = found
        front = keras_mtl.tuning.pareto_front(tuner)
        assert len(front.trials) == sum(t.status == "COMPLETED" for t in tuner.oracle.trials.values())
        assert {trial["parameters"] for trial in front.trials} == {2 * ((3 + 1) * 4 + (4 + 1) * 4 + 5)}
        assert all(trial["step_ms"] > 0 for trial in front.trials) and front.trials[0]["on_front"]
        front.plot(tmp_path / "front.png")
        assert (tmp_path / "front.png").stat().st_size > 10_000


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


def test_a_kill_while_a_file_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    """keras-tuner's own writer stops in the middle; by itself it has emptied the file by then."""
    from keras_tuner.src import backend, utils

    make()
    path = tmp_path / "trial.json"
    utils.save_json(str(path), {"trials": 1})

    @contextlib.contextmanager
    def stops(name, mode):
        with open(name, mode) as file:
            yield file
            file.flush()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backend.io, "File", stops)
        with pytest.raises(KeyboardInterrupt):
            utils.save_json(str(path), {"trials": 2})
    assert utils.load_json(str(path)) == {"trials": 1}
    utils.save_json(str(path), {"trials": 3})
    assert utils.load_json(str(path)) == {"trials": 3} and [p.name for p in tmp_path.iterdir()] == ["trial.json"]


def make_oracle(directory):
    """keras-tuner's own, without models."""
    oracle = keras_tuner.oracles.RandomSearchOracle(keras_tuner.Objective("score", "max"), max_trials=4, seed=1)
    oracle._set_project_dir(directory, "lost")
    oracle._display.verbose = 0
    oracle.hyperparameters.Float("x", 0.0, 1.0)
    return oracle


def finish(oracle):
    """Takes trials until there are no more. Returns their values by their names."""
    while (trial := oracle.create_trial("tuner")).status == "RUNNING":
        oracle.update_trial(trial.trial_id, {"score": trial.hyperparameters.values["x"]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert {trial.status for trial in oracle.trials.values()} == {"COMPLETED"}
    return {name: trial.hyperparameters.values["x"] for name, trial in oracle.trials.items()}


def test_a_trial_of_which_only_its_own_file_knows_is_handed_out_again(tmp_path):
    """A kill between the two files of a new trial."""
    make()
    whole = finish(make_oracle(tmp_path / "whole"))
    stopped = make_oracle(tmp_path / "stopped")
    first = stopped.create_trial("tuner")
    stopped.update_trial(first.trial_id, {"score": 0.5})
    first.status = "COMPLETED"
    stopped.end_trial(first)
    file = tmp_path / "stopped" / "lost" / "oracle.json"
    before = file.read_text()
    second = stopped.create_trial("tuner")
    file.write_text(before)

    again = make_oracle(tmp_path / "stopped")
    again.reload()
    assert again.trials[second.trial_id].status == "RUNNING"
    assert finish(again) == whole and again.start_order == sorted(whole)


def make_search(directory, max_trials=5):
    """What the killed process and its successor run."""
    return random_search(directory, make(sharing={"depths": (0, 2)}), max_trials, project_name="killed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The use case of calling:DeprecationWarning")  # keras-tuner, of a finished trial
def test_a_killed_search_goes_on(tmp_path):
    """kill -9 in a trial: what was finished is not trained again, what was not is, and nothing is missing."""
    code = f"""
import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import test_sharing_hyper_model as t
t.search(t.make_search({str(tmp_path)!r}), epochs=3)
"""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    project = tmp_path / "killed"

    def completed():
        texts = {path.parent: path.read_text() for path in sorted(project.glob("trial_*/trial.json"))}
        return [folder for folder, text in texts.items() if text and json.loads(text)["status"] == "COMPLETED"]

    def trained(folders):
        return {folder: (folder / "checkpoint.weights.h5").stat().st_mtime_ns for folder in folders}

    while process.poll() is None and len(completed()) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = completed()
    before = trained(finished)
    assert 2 <= len(finished) < 5
    trials = search(make_search(tmp_path), epochs=3)
    assert [t.trial_id for t in trials] == list("01234") and {t.status for t in trials} == {"COMPLETED"}
    assert trained(finished) == before
    assert len({json.dumps(t.hyperparameters.values, sort_keys=True) for t in trials}) == 5
    whole = search(random_search(tmp_path, make(sharing={"depths": (0, 2)}), 5, project_name="whole"), epochs=3)
    assert [t.score for t in trials] == pytest.approx([t.score for t in whole], rel=1e-5)

    # A search that is over is not trained again either, though keras-tuner starts its last trial once more.
    after = trained(project.glob("trial_*"))
    again = search(make_search(tmp_path), epochs=3)
    assert trained(project.glob("trial_*")) == after
    assert [t.score for t in again] == [t.score for t in trials] and {t.status for t in again} == {"COMPLETED"}
