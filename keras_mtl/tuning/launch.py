"""A chief and workers of keras-tuner on one machine."""

import argparse
import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time


def is_worker():
    """Whether this process is a worker of a search with a chief.

    A script that starts its processes with `launch` ends its workers where the
    search ends, and leaves what follows to the chief.

    Returns:
        Boolean. `False` in the chief, and where there is none.
    """
    name = os.environ.get("KERASTUNER_TUNER_ID", "")
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" not in name


def launch(command, workers=2, *, restarts=3, port=None, logs=None, poll=0.5):
    """Runs a search script as one chief and several workers, on this machine.

    All processes run the same command. Their environment tells keras-tuner who
    is who: the chief hands out trials and keeps the results; workers train. A
    worker that dies is started again under its name and gets the trial that it
    had, so every trial is finished, once. Without that the chief would wait for
    it for ever.

    The script makes its tuner with one `directory` and `project_name` and
    without `overwrite=True`, which would have every process delete the others'
    results. Run again after a kill, it goes on where the chief stopped.

    Args:
        command: List of strings, such as `[sys.executable, "search.py"]`.
        workers: Integer. Defaults to `2`.
        restarts: Integer. How often each worker may be started again. Defaults
            to `3`.
        port: Integer. Port of the chief on 127.0.0.1. Defaults to `None`: a
            free one.
        logs: Path of a folder for each process's output. Defaults to `None`:
            all to this one's.
        poll: Float. Seconds between two looks at the processes. Defaults to
            `0.5`.

    Returns:
        Integer. How many times a worker was started again.

    Raises:
        ValueError: If there are no workers.
        RuntimeError: If the chief fails, or a worker fails too often.

    Example:

    ```python
    keras_mtl.tuning.launch([sys.executable, "search.py"], workers=2)
    ```
    """
    if type(workers) is not int or workers < 1:
        raise ValueError(f"`workers` should be an integer of at least 1. Received: workers={workers!r}")
    environment = _environment(workers, port or _free_port())
    restarted = dict.fromkeys([f"worker{i}" for i in range(workers)], 0)
    with contextlib.ExitStack() as stack:
        processes = {}

        def start(name):
            output = None
            if logs is not None:
                pathlib.Path(logs).mkdir(parents=True, exist_ok=True)
                output = stack.enter_context(open(pathlib.Path(logs) / f"{name}.log", "a"))
            given = {**environment, "KERASTUNER_TUNER_ID": name}
            processes[name] = subprocess.Popen(command, env=given, stdout=output, stderr=output)

        stack.callback(_end, processes)
        for name in ("chief", *restarted):
            start(name)
        while (code := processes["chief"].poll()) is None:
            for name, times in restarted.items():
                if processes[name].poll() in (None, 0):
                    continue
                if times == restarts:
                    raise RuntimeError(
                        f"{name} ended {times + 1} times with an error, the last time with exit code "
                        f"{processes[name].returncode}: {command}"
                    )
                restarted[name] += 1
                print(f"{name} ended with exit code {processes[name].returncode}: started again", flush=True)
                start(name)
            time.sleep(poll)
        if code:
            raise RuntimeError(f"The chief ended with exit code {code}: {command}")
    return sum(restarted.values())


def _environment(workers, port):
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    # Workers that each take all cores only get in each other's way.
    own = {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")}
    return {**os.environ, **own, "KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(processes):
    """Ends what still runs: a worker may wait for a chief that is gone."""
    for process in processes.values():
        if process.poll() is None:
            process.terminate()
    for process in processes.values():
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main():
    """Command line: `python -m keras_mtl.tuning --workers 2 search.py [arguments]`."""
    parser = argparse.ArgumentParser("keras_mtl.tuning", description="Runs a search as one chief and several workers.")
    parser.add_argument("--workers", type=int, default=2, help="number of workers (default: 2)")
    parser.add_argument("--restarts", type=int, default=3, help="how often a worker may be started again (default: 3)")
    parser.add_argument("--port", type=int, help="port of the chief (default: a free one)")
    parser.add_argument("--logs", help="folder for each process's output (default: all to this one's)")
    parser.add_argument("script", help="a Python script that makes a tuner and calls its search")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    given = parser.parse_args()
    command = [sys.executable, given.script, *given.arguments]
    launch(command, given.workers, restarts=given.restarts, port=given.port, logs=given.logs)
