"""Runs that are killed at random moments, and two processes in one folder: the outcome is the uninterrupted one."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback

import pytest

KILLS = 40


def _model(tasks):
    import keras

    import keras_mtl

    heads = {task: keras.layers.Dense(1) for task in tasks}
    model = keras_mtl.hard_sharing(keras.Input((3,)), [keras.layers.Dense(3, activation="tanh")], heads)
    model.compile("sgd", loss="mse", run_eagerly=True)
    return model


def _data(count=16):
    import numpy as np

    x = np.random.default_rng(0).normal(size=(count, 3)).astype("float32")
    return x, {"a": x[:, :1], "b": x[:, 1:2] ** 2}


def compared(folder):
    from keras_mtl.analysis import compare

    candidates = {"one": lambda: _model("ab"), "two": lambda: _model("ba")}
    report = compare(
        candidates, _data(), metrics=dict.fromkeys("ab", "loss"), test=_data(8), epochs=2, seeds=1, progress=False,
        directory=folder,
    )  # fmt: skip
    return [report.baseline_means, {name: report.delta_m(name) for name in candidates}]


def grouped(folder):
    import keras

    from keras_mtl.analysis import build_groups

    keras.utils.set_random_seed(0)
    model = build_groups([["a"], ["b"], ["a", "b"]], _model)
    history = model.fit(*_data(), epochs=2, shuffle=False, verbose=0, directory=folder).history
    return [history["a_loss"], float(sum(abs(w).sum() for w in model.networks[0].get_weights()))]


def transferred(folder):
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)  # predictions too: tracing takes longer than all the rest
    from keras_mtl.analysis import transfer_map

    found = transfer_map(
        _model, _data(), validation=_data(8), tasks=["a", "b"], fraction=0.5, epochs=1, transfer_epochs=1,
        directory=folder, progress=False,
    )  # fmt: skip
    return [[*edge[0], edge[1], value] for edge, value in sorted(found.losses.items())]


def affine(folder):
    import keras

    from keras_mtl.analysis import measure_affinity

    keras.utils.set_random_seed(0)
    options = {"epochs": 2, "every": 1, "batch_size": 8, "progress": False}
    return measure_affinity(_model("ab"), _data(), directory=folder, **options).values.tolist()


KINDS = {"compare": compared, "grouping": grouped, "transfer": transferred, "affinity": affine}


def _started(kind, folder, out):
    """A child of this process, which has imported TensorFlow and not yet used it."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        found = KINDS[kind](folder)
        pathlib.Path(out).write_text(json.dumps(found))
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _kill_again_and_again(kind, root):
    """Prints what came of it."""
    draw = random.Random(0)
    folder, out, whole = root / "runs", root / "out.json", root / "whole.json"
    begun = time.monotonic()
    assert os.waitpid(_started(kind, root / "whole", whole), 0)[1] == 0
    seconds = time.monotonic() - begun
    expected = json.loads(whole.read_text())
    kills = ended = 0
    while True:
        child = _started(kind, folder, out)
        end = time.monotonic() + (draw.uniform(0.05, 0.8) * seconds if kills < KILLS else 600.0)
        status = None
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.002)
            status = None
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
            continue
        assert status == 0, "a run after a kill fails"
        assert json.loads(out.read_text()) == _near(expected)
        parts = [path.name for path in folder.glob("[!.]*.weights.h5")]  # what was being written stays for a day
        assert len(parts) <= len(list(folder.glob("*.json"))), parts
        ended += 1
        out.unlink()
        shutil.rmtree(folder)
        if kills >= KILLS:
            break
    print(f"{kind}: {kills} kills, {ended} outcomes, all as uninterrupted", flush=True)


def _two_at_once(kind, root, rounds=20):
    expected = None
    for turn in range(rounds):
        folder = root / f"runs{turn}"
        children = [_started(kind, folder, root / f"out{k}.json") for k in range(2)]
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
        found = [json.loads((root / f"out{k}.json").read_text()) for k in range(2)]
        expected = expected or found[0]
        assert found == _near([expected, expected])
    print(f"{kind}: {rounds} times two processes in one folder, all as expected", flush=True)


def _main(what, kind, root):
    import warnings

    import tensorflow as tf  # noqa: F401

    import keras_mtl.analysis
    import keras_mtl.callbacks  # noqa: F401

    warnings.simplefilter("error", UserWarning)  # such as of a file that is damaged
    warnings.filterwarnings("ignore", "Even though the `tf.config")
    (_kill_again_and_again if what == "kill" else _two_at_once)(kind, pathlib.Path(root))


class _Near(float):
    """Another process may add in another order."""

    def __eq__(self, other):
        return abs(self - other) <= 1e-5 * max(1.0, abs(self))

    __hash__ = float.__hash__


def _near(content):
    return json.loads(json.dumps(content), parse_float=lambda text: _Near(float(text)))


def _run(what, kind, root):
    code = (
        f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parents[2])!r})\n"
        f"from tests.analysis import test_store_kills as t\nt._main({what!r}, {kind!r}, {str(root)!r})"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    print(process.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments(kind, tmp_path):
    _run("kill", kind, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["compare", "grouping"])
def test_two_processes_in_one_folder(kind, tmp_path):
    _run("two", kind, tmp_path)
