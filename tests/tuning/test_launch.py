"""A chief and workers: who they are, what happens when one dies, and a real search."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from keras_mtl.tuning import is_worker, launch

# The chief ends when both workers have left a file; worker1 fails the first time.
SCRIPT = """
import os, pathlib, sys, time
folder, name = pathlib.Path(sys.argv[1]), os.environ["KERASTUNER_TUNER_ID"]
assert os.environ["KERASTUNER_ORACLE_IP"] == "127.0.0.1" and int(os.environ["KERASTUNER_ORACLE_PORT"]) > 0
(folder / f"{name}-{len(list(folder.glob(name + '-*')))}").touch()
if name == "worker1" and len(list(folder.glob("worker1-*"))) <= int(sys.argv[2]):
    sys.exit(3)
def started(worker):
    return len(list(folder.glob(worker + "-*")))
while name == "chief" and not (started("worker0") and started("worker1") > int(sys.argv[2])):
    time.sleep(0.02)
print(name, "is done")
"""


def run(folder, failures, **options):
    return launch([sys.executable, "-c", SCRIPT, str(folder), str(failures)], poll=0.02, **options)


def test_a_worker_that_fails_is_started_again_under_its_name(tmp_path):
    assert run(tmp_path, failures=2, logs=tmp_path / "logs") == 2
    started = sorted(p.name for p in tmp_path.iterdir() if p.name != "logs")
    assert started == ["chief-0", "worker0-0", "worker1-0", "worker1-1", "worker1-2"]
    assert (tmp_path / "logs" / "chief.log").read_text() == "chief is done\n"


def test_a_worker_that_fails_too_often_ends_all(tmp_path):
    with pytest.raises(RuntimeError, match="worker1 ended 2 times with an error, the last time with exit code 3"):
        run(tmp_path, failures=9, restarts=1)


def test_a_chief_that_fails_ends_all():
    code = "import os, sys, time; time.sleep(0 if os.environ['KERASTUNER_TUNER_ID'] == 'chief' else 60); sys.exit(5)"
    start = time.perf_counter()
    with pytest.raises(RuntimeError, match="chief ended with exit code 5"):
        launch([sys.executable, "-c", code], workers=1, poll=0.02)
    assert time.perf_counter() - start < 30  # the worker did not sleep on


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"workers": 0}, "`workers` should be an integer of at least 1. Received: workers=0"),
        ({"workers": True}, "`workers` should be an integer"),
        ({"restarts": -1}, "`restarts` should be an integer of at least 0. Received: restarts=-1"),
        ({"restarts": 1.0}, "`restarts` should be an integer of at least 0. Received: restarts=1.0"),
        ({"restarts": True}, "`restarts` should be an integer of at least 0. Received: restarts=True"),
        ({"restarts": None}, "`restarts`"),
        ({"port": 0}, "`port` should be an integer from 1 to 65535, or None. Received: port=0"),
        ({"port": "80"}, "`port`"),
        ({"poll": 0}, "`poll` should be a number of seconds above 0. Received: poll=0"),
        ({"poll": float("nan")}, "`poll`"),
        ({"command": []}, "`command` should be a list of strings"),
        ({"command": "search.py"}, "`command` should be a list of strings"),
        ({"command": ["./no-such-program"]}, "`command` should begin with a program that can be run"),
    ],
)
def test_arguments_out_of_their_range_are_refused(given, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        launch(**{"command": [sys.executable, "-c", "raise SystemExit(9)"], **given})


def test_a_port_in_use_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"`port` should be free. Received: port={port}"):
            launch([sys.executable, "-c", ""], port=port)


# Says who it is, says no to nothing, and stays.
STAYS = """
import os, pathlib, sys, time
(pathlib.Path(sys.argv[1]) / f"{os.environ['KERASTUNER_TUNER_ID']}.{os.environ['KERASTUNER_ORACLE_PORT']}").write_text(
    str(os.getpid())
)
time.sleep(600)
"""


def launched(folder, **options):
    """A process that launches a search which does not end by itself. Returns its id and those that it started."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which is ignored where the tests run under `nohup`
            launch([sys.executable, "-c", STAYS, str(folder)], poll=0.02, **options)
        except KeyboardInterrupt:
            os._exit(130)
        except SystemExit as ends:
            os._exit(ends.code)
        finally:
            os._exit(1)  # never on with the tests
    return child, [int(text) for text in wait_for(lambda: written(folder), 3)]


def written(folder):
    return [text for text in (p.read_text() for p in folder.glob("*.*")) if text]


def wait_for(found, count):
    end = time.monotonic() + 60
    while len(values := found()) != count:
        assert time.monotonic() < end, values
        time.sleep(0.02)
    return values


def alive(processes):
    def is_alive(process):
        try:
            return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except FileNotFoundError:
            return False

    return [process for process in processes if is_alive(process)]


FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; only Linux ends children with their parent")


@LINUX
@FORKS
@pytest.mark.parametrize(("sent", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129), ("SIGKILL", -9)])
def test_a_launch_that_is_ended_leaves_no_process(sent, code, tmp_path):
    launcher, processes = launched(tmp_path)
    assert alive(processes) == processes
    os.kill(launcher, getattr(signal, sent))
    assert os.waitstatus_to_exitcode(os.waitpid(launcher, 0)[1]) == code
    wait_for(lambda: alive(processes), 0)


def test_signals_are_as_before_after_a_launch(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run(tmp_path, failures=0)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@LINUX
@FORKS
def test_a_folder_and_a_port_in_use_are_refused(tmp_path):
    logs, command = tmp_path / "logs", [sys.executable, "-c", "raise AssertionError"]
    launcher, processes = launched(tmp_path, logs=logs)
    (port,) = {int(p.suffix[1:]) for p in tmp_path.glob("*.*") if p.suffix[1:].isdigit()}
    try:
        with pytest.raises(RuntimeError, match=re.escape(f"{str(logs)!r}, which another launch is using")):
            launch(command, logs=logs)
        with pytest.raises(ValueError, match="`port` should be free"):  # though no chief listens
            launch(command, port=port)
        assert alive(processes) == processes
    finally:
        os.kill(launcher, signal.SIGKILL)
        os.waitpid(launcher, 0)
    wait_for(lambda: alive(processes), 0)
    with pytest.raises(RuntimeError, match="chief ended with exit code 1"):  # the dead hold nothing
        launch(command, logs=logs, port=port, poll=0.02)


def test_a_second_chief_of_a_project_is_refused(tmp_path, monkeypatch):
    from keras_tuner.src.distribute import oracle_chief

    from keras_mtl._files import folder_lock
    from tests.tuning.searches import make, random_search

    monkeypatch.setattr(oracle_chief, "start_server", served := lambda oracle: "served")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    make()
    assert oracle_chief.start_server is served
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    tuner = random_search(tmp_path, make(), 1, project_name="p")
    with folder_lock(tmp_path / "p", "search"), pytest.raises(RuntimeError, match="another search is using"):
        tuner.search()
    assert oracle_chief.start_server(tuner.oracle) == "served"


def test_is_worker(monkeypatch):
    assert not is_worker()
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    assert is_worker()
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert not is_worker()


SEARCH = """
import sys, time
import keras, keras_tuner, numpy as np
from keras_mtl import tuning

class Slow(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.4)

x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
y = {"a": x[:, 0], "b": x[:, 1]}
hypermodel = tuning.SharingHyperModel(
    keras.Input((3,)), [keras.layers.Dense(4), keras.layers.Dense(4)],
    {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)}, compile={"loss": "mse"},
    sharing={"families": ["hard_sharing", "mmoe"]}, seed=0,
)
tuner = keras_tuner.RandomSearch(
    hypermodel, tuning.objective({"a": {"loss": 1.0}, "b": {"loss": 1.0}}), max_trials=8, seed=0, directory=sys.argv[1]
)
tuner.search(x, y, epochs=3, validation_data=(x, y), verbose=0, callbacks=[Slow()])
if tuning.is_worker():
    sys.exit()
best = tuner.get_best_models()[0]  # the chief reads what the workers saved
print("BEST", best.evaluate(x, y, verbose=0, return_dict=True)["a_loss"])
"""


def processes_of(script):
    """Process numbers of a search by keras-tuner's names of them."""
    found = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        names = [entry.split(b"=")[1].decode() for entry in environment if entry.startswith(b"KERASTUNER_TUNER_ID=")]
        if names and str(script).encode() in command:
            found[names[0]] = int(process.name)
    return found


@pytest.mark.slow
def test_two_workers_finish_every_trial_once_though_one_is_killed(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(SEARCH)
    project = tmp_path / "found" / "untitled_project"
    killed = []

    def status():
        texts = {p.parent.name: p.read_text() for p in sorted(project.glob("trial_*/trial.json"))}
        return {name: json.loads(text)["status"] for name, text in texts.items() if text}

    def kill_one():
        while list(status().values()).count("COMPLETED") < 2 or "RUNNING" not in status().values():
            time.sleep(0.05)
        number = processes_of(script)["worker1"]
        os.kill(number, signal.SIGKILL)
        killed.append(number)

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    command = [sys.executable, "-m", "keras_mtl.tuning", "--logs", str(tmp_path / "logs"), str(script)]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    done = subprocess.run([*command, str(tmp_path / "found")], env=environment, text=True, capture_output=True)
    thread.join(timeout=1)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(killed) == 1 and "worker1 ended with exit code -9: started again" in done.stdout
    files = sorted(project.glob("trial_*/trial.json"))
    trials = [json.loads(p.read_text()) for p in files]
    assert [t["trial_id"] for t in trials] == list("01234567")
    assert {t["status"] for t in trials} == {"COMPLETED"}
    values = [json.dumps(t["hyperparameters"]["values"], sort_keys=True) for t in trials]
    assert len(set(values)) == 8
    assert all(p.with_name("checkpoint.weights.h5").exists() for p in files)
    oracle = json.loads((project / "oracle.json").read_text())
    assert sorted(oracle["end_order"]) == list("01234567")
    assert "BEST" in (tmp_path / "logs" / "chief.log").read_text()


@pytest.mark.slow
def test_forty_kills_of_a_search_with_two_workers_change_nothing(tmp_path):
    """kill -9 of the launcher, the chief or a worker: what ends is the trials of an uninterrupted search, each once."""
    count = 60
    text = SEARCH.replace("max_trials=8, seed=0", f"max_trials={count}, seed=1").replace("0.4", "0.05")
    script = tmp_path / "search.py"
    script.write_text(text)
    rng = np.random.default_rng(0)
    command = [sys.executable, "-m", "keras_mtl.tuning", "--restarts", "100", "--logs", str(tmp_path / "logs")]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}

    def start():
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*command, str(script), str(tmp_path / "found")], env=environment, **quiet)

    kills, search = [], start()
    while len(kills) < 40:
        time.sleep(rng.uniform(1.0, 9.0))
        if search.poll() is not None:  # the chief was killed, and the launcher has ended the others
            search = start()
            continue
        victims = {**processes_of(script), "launcher": search.pid}
        name = sorted(victims)[rng.integers(len(victims))]
        os.kill(victims[name], signal.SIGKILL)
        kills.append(name)
        if name == "launcher":
            search.wait()
    if search.poll() is None:
        search.wait(timeout=600)
    for _ in range(3):  # the last kill may have been the chief's
        if search.returncode != 0:
            search = start()
            search.wait(timeout=600)
    assert search.returncode == 0 and len(set(kills)) == 4, kills

    # What an uninterrupted search hands out, without its trainings.
    alone: dict = {}
    exec(text.split("tuner.search")[0].replace("sys.argv[1]", repr(str(tmp_path / "alone"))), alone)
    oracle, expected = alone["tuner"].oracle, []
    for _ in range(count):
        trial = oracle.create_trial("alone")
        oracle.update_trial(trial.trial_id, {oracle.objective.name: 0.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        expected.append(json.dumps(trial.hyperparameters.values, sort_keys=True))

    files = sorted((tmp_path / "found" / "untitled_project").glob("trial_*/trial.json"))
    trials = [json.loads(path.read_text()) for path in files]
    assert {trial["status"] for trial in trials} == {"COMPLETED"} and len(trials) == count
    found = [json.dumps(trial["hyperparameters"]["values"], sort_keys=True) for trial in trials]
    assert sorted(found) == sorted(expected)
