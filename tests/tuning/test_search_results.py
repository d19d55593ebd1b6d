"""What a search leaves behind: failed trials, best models, HParams, the front."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
import warnings

import keras
import keras_tuner
import numpy as np
import pytest

import keras_mtl
from keras_mtl.tuning.budget import quick_collections
from tests.tuning.searches import Recorder, make, make_data, random_search, search


class NotANumber(keras.callbacks.Callback):
    """Spoils the weights of trials that share a stage."""

    def on_epoch_begin(self, epoch, logs=None):
        if self.model.shared_variables:
            for variable in self.model.trainable_variables:
                variable.assign(variable * np.nan)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """One search for several tests: trials of depth 1 become NaN, those of depth 0 do not."""
    directory = tmp_path_factory.mktemp("found")
    tuner = random_search(
        directory,
        make(
            compile={"loss": "mse", "metrics": {"b": ["mae"]}, "run_eagerly": True},
            sharing={"depths": (0, 1)},
            weighting={"methods": ["uncertainty", "dwa"]},
        ),
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
