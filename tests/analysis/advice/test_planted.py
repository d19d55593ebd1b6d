"""Problems whose right answer is known: what is said of them, and that a call that is killed comes to the same."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from recipes.data.planted import BATCHES, WIDTHS, planted


def ask(kind, **options):
    train, test = planted(kind)
    arguments = {"minutes": 30, "epochs": 30, "seeds": 3, "batch_size": BATCHES[kind], "progress": False}
    return keras_mtl.advise(
        keras.Input((20,)),
        [layers.Dense(WIDTHS[kind], activation="tanh", name="low")],
        {task: layers.Dense(1) for task in train[1]},
        train=train,
        test=test,
        compile={"optimizer": keras.optimizers.Adam(3e-2), "loss": "mse", "missing": "nan"},
        metrics=dict.fromkeys(train[1], "loss"),
        **{**arguments, **options},
    )


@pytest.mark.slow
def test_unrelated_tasks_in_a_narrow_trunk_do_not_share():
    advice = ask("unrelated")
    assert advice.name == "nothing shared" and advice.verdict.startswith("Do not share.")


@pytest.mark.slow
def test_a_task_with_few_labels_shares():
    advice = ask("few labels")
    assert advice.name != "nothing shared"
    assert "few labels" in {finding.kind for finding in advice.findings}
    assert advice.test["gains"]["b"][0] > 0


@pytest.mark.slow
def test_two_groups_are_found():
    advice = ask("groups")
    assert advice.tree == [[["a", "b"], ["c", "d"]]]


@pytest.mark.slow
def test_scales_are_seen_and_standardized_on_request():
    said = {finding.kind: finding for finding in ask("starved", epochs=2, seeds=1).findings}
    assert said["starved"].tasks == ("b",) and "standardize=True" in said["scales"].text
    advice = ask("starved", epochs=2, seeds=1, standardize=True)
    assert advice.scales["a"][1] == pytest.approx(100 * np.sqrt(1.04), rel=0.1)
    assert not {"scales", "starved"} & {finding.kind for finding in advice.findings}


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.analysis.advice import test_planted
print("VERDICT", test_planted.ask("unrelated", epochs=4, seeds=2, directory=sys.argv[2]).verdict, flush=True)
"""


@pytest.mark.slow
def test_kills_do_not_change_the_verdict(tmp_path):
    """Killed at ten random moments, and called again until it is done."""
    place = str(pathlib.Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(folder):
        command = [sys.executable, "-c", PROGRAM, place, str(tmp_path / folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def verdict(process):
        output, _ = process.communicate()
        assert process.returncode == 0
        return next(line for line in output.splitlines() if line.startswith("VERDICT"))

    whole = verdict(start("whole"))
    runs = len(list((tmp_path / "whole").glob("*.json")))
    rng = random.Random(0)
    for _ in range(10):
        process = start("killed")
        try:
            process.wait(timeout=rng.uniform(5, 30))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert verdict(start("killed")) == whole
    killed = list((tmp_path / "killed").glob("*.json"))
    assert len(killed) == runs and all(json.loads(path.read_text()) for path in killed)
