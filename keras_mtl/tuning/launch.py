"""A chief and workers of keras-tuner on one machine."""

import argparse
import contextlib
import numbers
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import NoReturn

from keras_mtl._checks import check_integer, is_integer
from keras_mtl._files import folder_lock, writable_folder

# Runs a command in place of itself, which the kernel ends with the process that started it.
_TIED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def is_worker() -> bool:
    """Whether this process is a worker of a search with a chief.

    A script that starts its processes with `launch` ends its workers where the
    search ends, and leaves what follows to the chief.

    Returns:
        Boolean. `False` in the chief, and where there is none.
    """
    name = os.environ.get("KERASTUNER_TUNER_ID", "")
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" not in name


def is_chief() -> bool:
    """Whether this process is the chief of a search, which hands out the trials."""
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" in os.environ.get("KERASTUNER_TUNER_ID", "")


def launch(
    command: Sequence[str],
    workers: int = 2,
    *,
    restarts: int = 3,
    port: int | None = None,
    logs: str | os.PathLike | None = None,
    poll: float = 0.5,
) -> int:
    """Runs a search script as one chief and several workers, on this machine.

    All processes run the same command. Their environment tells keras-tuner who
    is who: the chief hands out trials and keeps the results; workers train. A
    worker that dies is started again under its name and gets the trial that it
    had, so every trial is finished, once. Without that the chief would wait for
    it for ever.

    The script makes its tuner with one `directory` and `project_name` and
    without `overwrite=True`, which would have every process delete the others'
    results. Run again after a kill, it goes on where the chief stopped. A chief
    does not start on a project that another chief is working on, if the script
    makes a `SharingHyperModel`.

    SIGINT, SIGTERM and SIGHUP end all processes; on Linux so does the end of
    this one by whatever means, such as SIGKILL. Elsewhere SIGKILL, which no
    process can answer, leaves them to be ended by hand.

    Args:
        command: List of strings, such as `[sys.executable, "search.py"]`.
        workers: Integer. Defaults to `2`.
        restarts: Integer of at least 0. How often each worker may be started
            again. Defaults to `3`.
        port: Integer. Port of the chief on 127.0.0.1. Defaults to `None`: a
            free one, which on Linux is kept for the chief.
        logs: Path of a folder for each process's output, for one launch at a
            time. Defaults to `None`: all to this one's.
        poll: Float. Seconds between two looks at the processes. Defaults to
            `0.5`.

    Returns:
        Integer. How many times a worker was started again.

    Raises:
        ValueError: If an argument is out of its range, the folder for logs
            cannot be written to, or the port is in use.
        RuntimeError: If another launch uses the folder for logs, the chief
            fails, or a worker fails too often.

    Example:

    ```python
    keras_mtl.tuning.launch([sys.executable, "search.py"], workers=2)
    ```
    """
    _check(command, workers, restarts, port, poll)
    restarted = dict.fromkeys([f"worker{i}" for i in range(workers)], 0)
    with contextlib.ExitStack() as stack:
        folder = None if logs is None else writable_folder(logs, "logs")
        if folder is not None:
            stack.enter_context(folder_lock(folder, "launch"))
        environment = _environment(workers, stack.enter_context(_kept_port(port)))
        processes = {}

        def start(name: str) -> None:
            output = None if folder is None else stack.enter_context(open(folder / f"{name}.log", "a"))
            given = {**environment, "KERASTUNER_TUNER_ID": name}
            processes[name] = subprocess.Popen(_tied(command), env=given, stdout=output, stderr=output)

        stack.enter_context(_signals_raise())
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


def _environment(workers: int, port: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    # Workers that each take all cores only get in each other's way.
    own = {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")}
    return {**os.environ, **own, "KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}


def _check(command: Sequence[str], workers: int, restarts: int, port: int | None, poll: float) -> None:
    if (
        not isinstance(command, (list, tuple))
        or not command
        or not all(isinstance(c, (str, os.PathLike)) for c in command)
    ):
        raise ValueError(f"`command` should be a list of strings. Received: command={command!r}")
    if shutil.which(command[0]) is None:
        raise ValueError(f"`command` should begin with a program that can be run. Received: command={command!r}")
    check_integer(workers, "workers", least=1)
    check_integer(restarts, "restarts")
    if port is not None and (not is_integer(port) or not 1 <= port <= 65535):
        raise ValueError(f"`port` should be an integer from 1 to 65535, or None. Received: port={port!r}")
    if not isinstance(poll, numbers.Real) or isinstance(poll, bool) or not 0 < float(poll) < float("inf"):
        raise ValueError(f"`poll` should be a number of seconds above 0. Received: poll={poll!r}")


def _tied(command: Sequence[str]) -> list[str]:
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]


@contextlib.contextmanager
def _kept_port(port: int | None) -> Iterator[int]:
    """Gives the chief's port and, on Linux, keeps it, so that nobody else is given it before the chief has it."""
    with socket.socket() as kept:
        # Alone there, but for connections of earlier chiefs that linger; others on this port are refused from here on.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(os.name == "posix"))
        try:
            kept.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise ValueError(f"`port` should be free. Received: port={port!r} ({error})") from error
        found = kept.getsockname()[1]
        if sys.platform == "linux":
            # Then open to the chief: gRPC asks for SO_REUSEPORT, and a socket that does not listen takes no connection.
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        else:
            kept.close()
        yield found


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Lets signals that would end this process at once end the others first."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # What the program itself does about a signal, such as ignoring it, stays.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(processes: Mapping[str, subprocess.Popen]) -> None:
    """Ends what still runs: a worker may wait for a chief that is gone."""
    running = [process for process in processes.values() if process.poll() is None]
    try:
        for process in running:
            process.terminate()
        end = time.monotonic() + 10
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, end - time.monotonic()))
    finally:  # also when a second signal comes meanwhile
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def main() -> None:
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
