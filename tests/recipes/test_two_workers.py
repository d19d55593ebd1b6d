"""The recipe of two workers: one is killed, and the weights are those of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_quick_run_equals_one_process(tmp_path):
    """It exits with an error where a weight differs by more than 1e-5."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", str(ROOT / "recipes" / "two_workers.py"), "--quick"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "worker 1 died (-9)" in done.stdout
    results = tmp_path / "runs" / "two_workers" / "nash"
    assert (results / "one_of_them_killed" / "weights.npz").exists()
