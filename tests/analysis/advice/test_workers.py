"""Processes that train side by side: the same answer as one gives, and what becomes of them where things go wrong."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_mtl
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.advice import _candidates as candidates
from keras_mtl.analysis.advice._halving import EnoughTime, _expected, make_plan
from keras_mtl.analysis.advice._problem import Candidate, Problem
from keras_mtl.analysis.advice._sending import Pickler, Unpickler
from keras_mtl.analysis.advice._trial import Job, OutOfTimeError, Trial, seconds_of
from keras_mtl.analysis.advice._trials import FINAL_SEED, Trials
from keras_mtl.analysis.advice._workers import Workers


def own_loss(y, predicted):
    return ops.mean(ops.square(y - predicted), axis=-1)


class Unregistered(layers.Dense):
    pass


class Ends(layers.Dense):
    """Kills the second worker, at its first training."""

    def call(self, inputs):
        if multiprocessing.current_process().name.endswith("worker 1") and inputs.shape[0] == 70:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().call(inputs)


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype("float32")
    y = {"a": x[:, :1] + x[:, 1:2], "b": (x[:, 1:2] + x[:, 2:3] > 0).astype("int32")}
    return (x[:140], {t: v[:140] for t, v in y.items()}), (x[140:], {t: v[140:] for t, v in y.items()})


def advise(workers, layer=layers.Dense, loss=own_loss, **options):
    train, test = make_data()
    keras.utils.set_random_seed(1)
    return keras_mtl.advise(
        keras.Input((5,)),
        [layer(6, activation="relu", name="low"), layers.Dropout(0.1, name="high")],
        {"a": layers.Dense(1), "b": layers.Dense(1, activation="sigmoid")},
        train=train,
        test=test,
        compile={
            "optimizer": keras.optimizers.Adam(1e-2),
            "loss": {"a": loss, "b": keras.losses.BinaryCrossentropy(label_smoothing=0.1)},
            "run_eagerly": True,
        },
        metrics={"a": "loss", "b": "auc"},
        batch_size=70,
        workers=workers,
        **{"epochs": 2, "seeds": 1, "progress": False, **options},
    )


@pytest.fixture(autouse=True)
def _few_candidates(monkeypatch):
    monkeypatch.setattr(candidates, "AGREE", -1.0)
    monkeypatch.setattr(candidates, "CONFLICT", 2.0)


def assert_same(ours, theirs):
    assert ours.name == theirs.name and ours.verdict == theirs.verdict
    for one, other in zip(ours.candidates, theirs.candidates, strict=True):
        for key in ("name", "outcome", "epochs", "seeds"):
            assert one[key] == other[key]
        np.testing.assert_allclose(one["delta_m"], other["delta_m"], rtol=1e-4, atol=1e-4)
    assert ours.test["by_seed"] == pytest.approx(theirs.test["by_seed"], rel=1e-4, abs=1e-4)
    x = make_data()[1][0]
    for task, predicted in theirs.model.predict(x, verbose=0).items():
        np.testing.assert_allclose(ours.model.predict(x, verbose=0)[task], predicted, rtol=1e-4, atol=1e-5)


def test_two_workers_train_what_one_process_does(tmp_path):
    """Rounds of two candidates, which go on where they were, and their last trainings."""
    problem = problem_of(
        [layers.Dense(6, activation="relu", name="low"), layers.Dropout(0.1)],
        compile={"loss": {"a": own_loss, "b": "mse"}, "run_eagerly": True},
        batch_size=70,
    )
    both = [Candidate("nothing shared", "", options={"shared_depth": 0}), Candidate("all shared", "")]
    rounds = [[Job("", each, 1, epochs) for each in both] for epochs in (1, 2)]
    rounds.append([Job("", each, FINAL_SEED + 1, 2, final=True) for each in both])

    def trained(trials):
        return [trial for jobs in rounds for trial in trials.each(jobs, lambda said: None)]

    store, deadline = RunStore(tmp_path, settings_digest="of this test"), time.perf_counter() + 1000
    with Workers(2, problem, store, [1, 2]) as workers:
        trials = Trials(problem, store, [1, 2], deadline, workers)
        ours = trained(trials)
        model = trials.trained(both[0], FINAL_SEED + 1, 2, "final")
    assert (store.runs_read, store.runs_trained) == (0, 6) and not multiprocessing.active_children()
    alone = Trials(problem, RunStore(None), [1, 2], deadline)
    for mine, theirs in zip(ours, trained(alone), strict=True):
        assert (mine.candidate, mine.seed, mine.epochs) == (theirs.candidate, theirs.seed, theirs.epochs)
        for one, other in zip(mine.values, theirs.values, strict=True):
            assert one == pytest.approx(other, rel=1e-5)
    weights = alone.trained(both[0], FINAL_SEED + 1, 2, "final").get_weights()
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_workers_give_the_answer_of_one_process(tmp_path):
    two = advise(2, directory=tmp_path)
    trained = len(list(tmp_path.glob("*.json")))
    assert two.origin == f"0 runs read from {str(tmp_path)!r}, {trained} trained."
    assert not multiprocessing.active_children()
    assert_same(two, advise(None))


@pytest.mark.slow
def test_a_worker_that_ends_loses_nothing(tmp_path):
    with pytest.warns(UserWarning, match=r"could not train .*exit code -9.* done in this process"):
        ours = advise(2, Ends, directory=tmp_path)
    assert_same(ours, advise(None, Ends))
    again = advise(3, Ends, directory=tmp_path)  # nothing is left to do, so none is started
    assert again.origin.endswith(" 0 trained.")


@pytest.mark.slow
def test_more_workers_than_trainings_and_a_folder_for_tensorboard(tmp_path):
    advice = advise(5, epochs=1, seeds=1, logs=tmp_path)
    assert advice.origin is None
    assert len(list(tmp_path.rglob("events.out.tfevents.*"))) >= 2


@pytest.mark.parametrize("workers", [0, -1, True, 2.0, "2"])
def test_bad_numbers_of_workers(workers):
    with pytest.raises(ValueError, match="`workers` should be `None` or an integer of at least 1"):
        advise(workers)


def test_what_cannot_be_sent_is_named_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(Trials, "each", lambda *args: pytest.fail("something was trained"))
    with pytest.raises(ValueError, match=r"`compile\['loss'\]\['a'\]` should be something that can be sent"):
        advise(2, loss=lambda y, predicted: ops.mean(ops.square(y - predicted), axis=-1))

    class Local(layers.Dense):
        pass

    with pytest.raises(ValueError, match=r"`stages\[0\]` should be something that can be sent"):
        advise(2, Local)
    # As in a notebook, whose functions no other process finds.
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    sys.modules["__main__"].own = own = types.FunctionType(own_loss.__code__, globals())
    own.__module__ = "__main__"
    with pytest.raises(ValueError, match=r"`compile\['loss'\]\['a'\]` .*'own_loss' is not of a module"):
        advise(2, loss=own)
    sys.modules["__main__"].__file__ = "<stdin>"
    with pytest.raises(ValueError, match="`workers` should be None where the script is no file"):
        advise(2)


def problem_of(stages, **options):
    train, test = make_data()
    arguments = {
        "train": train,
        "validation": None,
        "test": test,
        "compile": {"loss": "mse"},
        "metrics": {"a": "loss", "b": "loss"},
        "directions": None,
        "batch_size": 28,
        "standardize": True,
    }
    heads = {"a": layers.Dense(1), "b": Unregistered(1)}
    return Problem(keras.Input((5,), name="x"), stages, heads, **{**arguments, **options})


def test_a_problem_is_the_same_in_another_process(tmp_path):
    """Layers with their state, losses with their options, arrays by files; initial weights are drawn as they were."""
    adapted = layers.Normalization(name="adapted")
    adapted.adapt(make_data()[0][0] * 3 + 1)
    drawn, learned = layers.Dense(4, name="drawn"), Unregistered(4, name="learned")
    drawn.build((None, 5))
    learned.build((None, 4))
    learned.set_weights([np.full((4, 4), 0.5), np.ones(4)])
    losses = {"a": "mse", "b": keras.losses.BinaryCrossentropy(label_smoothing=0.3)}
    big = np.zeros((140, 5, 100), "float32")
    problem = problem_of([adapted, drawn, learned], compile={"loss": losses, "optimizer": keras.optimizers.SGD(0.3)})
    with open(tmp_path / "given", "wb") as file:
        Pickler(file, tmp_path).dump((problem, big))
    with open(tmp_path / "given", "rb") as file:
        sent, array = Unpickler(file).load()
    assert isinstance(array, np.memmap) and len(list(tmp_path.glob("*.npy"))) == 1
    labels, predicted = np.ones((1, 1)), np.full((1, 1), 0.9)  # 0.85 and 0.15, smoothed
    assert float(sent.compile_options["loss"]["b"](labels, predicted)) == pytest.approx(
        -0.85 * np.log(0.9) - 0.15 * np.log(0.1), rel=1e-5
    )
    assert float(sent.compile_options["optimizer"].learning_rate) == pytest.approx(0.3)
    for ours, theirs in ((problem.train, sent.train), (problem.validation, sent.validation)):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1]["a"], theirs[1]["a"])
    built = []
    for each in (problem, sent):
        keras.utils.set_random_seed(3)
        built.append(each.build(Candidate("1 of 3 stages shared", "", options={"shared_depth": 1})))
    for ours, theirs in zip(*(model.weights for model in built), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    kernels = {v.path: np.asarray(v) for v in built[0].weights}
    assert np.all(kernels["a/learned/kernel"] == 0.5)


class FakeWorker:
    """Answers at once what it is told to."""

    def __init__(self, answers):
        self.answers, self.traced, self.said, self.exit_code = list(answers), set(), [], -9
        self.pipe, self.other = multiprocessing.Pipe()

    def say(self, message):
        self.said.append(message)
        self.other.send("anything")

    def answer(self, seconds):
        self.pipe.recv()
        return self.answers.pop(0)

    def end(self):
        pass


def team(*workers):
    made = Workers.__new__(Workers)
    made._running, made.count, made._started = list(workers), len(workers), True
    return made


JOBS = [Job(f"{name}{seed}", Candidate(name, ""), seed, 4) for seed in range(2) for name in "xyz"]


def test_seeds_of_a_candidate_go_to_the_worker_that_has_traced_it():
    one, other = FakeWorker([("done", 1)] * 6), FakeWorker([("done", 1)] * 6)
    began = []
    answers = team(one, other).work(JOBS, lambda: 5.0, began.append)
    assert answers == dict.fromkeys(range(6), ("done", 1))
    for worker in (one, other):
        assert all(what == "do" and seconds == 5.0 for what, _, seconds in worker.said)
    traced = [[job.candidate.name for _, job, _ in worker.said] for worker in (one, other)]
    assert sorted(traced[0] + traced[1]) == list("xxyyzz") and began[0] == "x0"
    assert sum(len(set(names)) for names in traced) <= 4  # at most one is traced twice, so that none stands idle
    assert " | " in "".join(began)


def test_jobs_of_workers_that_end_are_left_out():
    one, other = FakeWorker([("done", 2), ("late", 1), ("done", 1)]), FakeWorker([None])
    with pytest.warns(UserWarning, match="could not train .* exit code -9"):
        answers = team(one, other).work(JOBS[:4], lambda: 5.0, lambda said: None)
    assert sorted(answers.values()) == [("done", 1), ("done", 2), ("late", 1)]
    with pytest.warns(UserWarning, match="could not train"):
        assert team(FakeWorker([None])).work(JOBS, lambda: 5.0, lambda said: None) == {}
    with pytest.warns(UserWarning, match="could not train x0: OOM"):
        answers = team(FakeWorker([("trouble", "OOM"), ("done", 1)])).work(JOBS[:2], lambda: 5.0, lambda said: None)
    assert answers == {1: ("done", 1)}
    with pytest.raises(ValueError, match="of what was given"):
        team(FakeWorker([("error", ValueError("of what was given"))])).work(JOBS, lambda: 5.0, lambda said: None)


def trial_of(job, seconds=3.0):
    return Trial(job.candidate, job.seed, job.epochs, [], {}, [], 0, 0.0, 0.0, 0.0, seconds)


def test_what_is_spent_side_by_side_is_counted_once(monkeypatch):
    workers = types.SimpleNamespace(count=2, start=lambda seconds: None)
    workers.work = lambda jobs, remaining, step: {0: ("done", 1), 1: ("done", 1), 2: ("late", 0)}
    trials = Trials(None, RunStore(None), [4], 0.0, workers)

    def do(job):
        trials.spent += 3.0
        return trial_of(job)

    monkeypatch.setattr(trials, "do", do)
    done = trials.each(JOBS[:4], lambda said: None)
    assert [next(done).candidate.name for _ in range(2)] == ["x", "y"] and trials.spent == 3.0
    with pytest.raises(OutOfTimeError):
        next(done)
    alone = Trials(None, RunStore(None), [4], 0.0)
    monkeypatch.setattr(alone, "do", lambda job: setattr(alone, "spent", alone.spent + 3.0) or trial_of(job))
    said = []
    assert len(list(alone.each(JOBS, said.append))) == 6 and alone.spent == 18.0 and said == [j.said for j in JOBS]


def test_times_side_by_side():
    """4, 3, 2 and 1 s by two: 4 + 1 and 3 + 2."""
    assert seconds_of([4, 3, 2, 1], 2) == 5 and seconds_of([4, 3, 2, 1], 1) == 10 and seconds_of([4, 3], 5) == 4
    assert seconds_of([], 2) == 0
    trial = trial_of(JOBS[0])
    trial.first_seconds, trial.epoch_seconds = 5.0, 0.5
    one, two = (make_plan(8, 20, 3, 1e6, trial, at_once) for at_once in (1, 2))
    assert [(r.epochs, r.seeds, r.candidates) for r in one.rungs] == [(10, 2, 8), (20, 3, 4)]
    # 8 are traced, 2 rounds of 8 for 10 epochs, 2 of 4 for 10 more, one of 4 for 20 in two parts; each part has 0.7 s.
    assert one.search_seconds == pytest.approx(8 * 4.5 + (2 * 8 + 2 * 4) * 5.7 + 4 * 11.4)
    assert two.search_seconds == pytest.approx(one.search_seconds / 2)
    assert two.final_seconds == pytest.approx(3 * 10.7 + 0.5 * 4.5)
    with pytest.raises(ValueError, match=r"about 0\.4\. Received: minutes=0.2"):
        EnoughTime(4, 12.0, 2)(4.0, 2.0)  # (2 * 4 + 4 * 4 * 2) / 2 = 20 s
    EnoughTime(4, 21.0, 2)(4.0, 2.0)
    runs = {"x": {0: trial}, "y": {}}
    # 20 epochs of 0.5 s and 0.7 s, for each of three.
    alive = [job.candidate for job in JOBS[:3]]
    assert _expected(alive, runs, 20, 1, 1) == pytest.approx(3 * 10.7)
    assert _expected(alive, runs, 20, 1, 2) == pytest.approx(2 * 10.7)


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.analysis.advice import test_workers
{guard}test_workers.advise(2, epochs={epochs}, directory={folder!r})
"""


def script(tmp_path, guard, epochs):
    root = str(pathlib.Path(__file__).parents[3])
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(root=root, guard=guard, epochs=epochs, folder=str(tmp_path / "runs")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, str(path)], stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told(tmp_path):
    process = script(tmp_path, "", 1)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 1 and not list((tmp_path / "runs").glob("*.json"))
    assert "Workers should start" in said.splitlines()[-1] and "if __name__ == '__main__':" in said.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_worker_outlives_what_started_it(tmp_path):
    process = script(tmp_path, "if __name__ == '__main__': ", 100_000)

    def workers():
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                number, parent = path.parent.name, path.read_text().rsplit(")", 1)[1].split()[1]
                if parent == str(process.pid) and b"spawn_main" in (path.parent / "cmdline").read_bytes():
                    found.append(int(number))
            except OSError:
                continue
        return found

    end = time.monotonic() + 200
    while len(found := workers()) < 2:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.2)
    time.sleep(15)  # into their trainings
    process.kill()
    process.communicate()
    end = time.monotonic() + 60
    while any(pathlib.Path(f"/proc/{pid}/stat").exists() for pid in found):
        assert time.monotonic() < end
        time.sleep(0.2)
