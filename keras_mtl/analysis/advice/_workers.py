"""Processes on this machine that train candidates side by side, all with one folder of runs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection as connections
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl.analysis._progress import run_bar
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.advice._sending import Pickler, Unpickler, check_sendable
from keras_mtl.analysis.advice._trial import Job, OutOfTimeError
from keras_mtl.analysis.advice._trials import Trials

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Candidate, Problem

START = 10.0  # seconds that a plan leaves for their start: they import everything anew
_LONGEST_START = 120.0  # seconds
_NAME = "keras_mtl.advise worker"
_GUARD = (
    "In each of them Python reads the script anew, without what stands under `if __name__ == '__main__':`, where the "
    "call of `advise` has to be"
)


def check_no_worker() -> None:
    """Raises where a script that a worker reads calls `advise` itself."""
    if multiprocessing.current_process().name.startswith(_NAME):
        raise RuntimeError(f"`advise` with `workers` starts processes. {_GUARD}")


class Workers:
    """Processes that train what they are handed, and keep it where all of them and this one find it.

    They are started by `start`, end with the context or with this process, by
    whatever means that ends, and leave nothing but runs.

    Args:
        count: Integer.
        problem: `Problem`, of which each of them has a copy.
        store: `RunStore` that keeps runs.
        points: List of integers, as `Trials` takes it.

    Raises:
        ValueError: If something of the problem cannot be sent to a process.
    """

    def __init__(self, count: int, problem: Problem, store: RunStore, points: Sequence[int]) -> None:
        if multiprocessing.current_process().daemon:
            raise ValueError(
                f"`workers` should be None in a process that may have none itself. Received: workers={count}"
            )
        script = getattr(sys.modules["__main__"], "__file__", None)
        if script is not None and not os.path.exists(script):
            raise ValueError(
                f"`workers` should be None where the script is no file that processes could read. Received: "
                f"workers={count}; script {script!r}"
            )
        self.count = count
        self._running, self._started = [], False
        self._folder = tempfile.TemporaryDirectory(prefix="keras-mtl-advise-")
        try:
            check_sendable(problem)
            where = str(store.directory), store.settings_digest, list(points)
            config = {name: getattr(keras.config, name)() for name in ("floatx", "epsilon", "image_data_format")}
            with open(self._given, "wb") as file:
                pickler = Pickler(file, Path(self._folder.name))
                pickler.dump((config, keras.config.dtype_policy()))
                pickler.dump((problem, where))
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: Any) -> None:
        for worker in self._running:
            worker.end()
        self._running = []
        self._folder.cleanup()

    @property
    def _given(self) -> str:
        return os.path.join(self._folder.name, "given.pickle")

    def start(self, seconds: float) -> None:
        """Starts them, unless that is done, and waits until all can work.

        Args:
            seconds: Float. How long that may take.

        Raises:
            RuntimeError: If they do not start.
            ValueError: If they cannot make what `advise` was given.
        """
        if self._started:
            return
        self._started = True
        with _environment(self.count):
            self._running = [_Worker(place, self._given) for place in range(self.count)]
        end = time.monotonic() + min(seconds, _LONGEST_START)
        for worker in self._running:
            answer = worker.answer(max(0.0, end - time.monotonic()))
            if answer is None:
                code = worker.exit_code
                what = f"took longer than {seconds:.0f} s" if code is None else f"ended with exit code {code}"
                raise RuntimeError(
                    f"Workers should start. Received: one that {what}; what it said of that is above. {_GUARD}"
                )
            if answer[0] != "ready":
                raise ValueError(
                    "`advise` with `workers` should be given what other processes can make. Received there: "
                    f"{answer[1]}. They find functions and classes of modules and, above its guard, of the script that "
                    "is run, and none of a notebook: put those into a module, or leave `workers` out"
                )

    def work(
        self, jobs: Sequence[Job], remaining: Callable[[], float], step: Callable[[str], None]
    ) -> dict[int, tuple[str, int]]:
        """Has jobs done.

        A job goes to a worker that has traced its candidate, if one is free,
        else to any. What a worker does not do, since it ended or failed, is
        left out, with a warning.

        Args:
            jobs: List of `Job`.
            remaining: Function that returns the seconds until no job goes on.
            step: Function of a string, called as each job begins.

        Returns:
            Dict from place of a job to a tuple of `"done"` or `"late"` and how
            many runs were kept for it.
        """
        waiting: dict[int, Job] = dict(enumerate(jobs))
        answers: dict[int, tuple[str, int]] = {}
        busy: dict[Any, tuple[_Worker, int]] = {}
        while busy or (waiting and self._running):
            for worker in [w for w in self._running if w.pipe not in busy]:
                place = self._next(worker, waiting)
                if place is None:
                    break
                job = waiting.pop(place)
                worker.traced.add(job.candidate.name)
                busy[worker.pipe] = worker, place
                step(" | ".join(jobs[at].said for _, at in busy.values()))
                worker.say(("do", job, remaining()))
            for pipe in connections.wait(list(busy)):
                worker, place = busy.pop(pipe)
                answer = worker.answer(0.0)
                if answer is None:
                    self._running.remove(worker)
                    worker.end()
                    code = worker.exit_code
                    memory = ", as where memory runs out" if code == -getattr(signal, "SIGKILL", 0) else ""
                    answer = "trouble", f"its process ended with exit code {code}{memory}"
                kind, what = answer
                if kind == "error":
                    raise what
                if kind in ("done", "late"):
                    answers[place] = kind, what
                    continue
                warnings.warn(
                    f"A worker of `advise` could not train {jobs[place].said}: {what}. That is done in this process; "
                    "what others have trained is kept.",
                    stacklevel=2,
                )
        return answers

    def forget(self, candidate: Candidate) -> None:
        """Lets them go of the weights of a candidate."""
        for worker in self._running:
            worker.say(("forget", candidate))

    def _next(self, worker: _Worker, waiting: Mapping[int, Job]) -> int | None:
        others = set().union(*(w.traced for w in self._running if w is not worker))

        def order(place: int) -> tuple[bool, bool, int]:
            name = waiting[place].candidate.name
            return name not in worker.traced, name in others, place

        return min(waiting, key=order, default=None)


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, place: int, given: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.traced = set()
        self.pipe, theirs = context.Pipe()
        # Daemons end with this process where it ends by itself; where it is killed, they see it.
        self._process = context.Process(target=_serve, args=(theirs, given), name=f"{_NAME} {place}", daemon=True)
        self._process.start()
        theirs.close()

    @property
    def exit_code(self) -> int | None:
        """Of the process; `None` while it runs."""
        self._process.join(1.0)
        return self._process.exitcode

    def say(self, message: object) -> None:
        with contextlib.suppress(OSError):  # one that has ended is found out when it should answer
            self.pipe.send(message)

    def answer(self, seconds: float) -> Any:  # noqa: ANN401
        """What it says, or `None` if it has ended or says nothing in that time."""
        try:
            return self.pipe.recv() if self.pipe.poll(seconds) else None
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: connections.Connection, given: str) -> None:
    """What a worker does, until the other end of the pipe is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    try:
        with open(given, "rb") as file:
            unpickler = Unpickler(file)
            _configure(*unpickler.load())  # before layers are made
            problem, (directory, digest, points) = unpickler.load()
        trials = Trials(problem, RunStore(directory, settings_digest=digest), points, deadline=0.0)
    except Exception as error:
        pipe.send(("trouble", f"{type(error).__name__}: {error}"))
        return
    pipe.send(("ready", ""))
    with run_bar("advise", 0, False):
        while True:
            try:
                message = pipe.recv()
            except EOFError:
                return
            if message[0] == "forget":
                trials.forget(message[1])
            else:
                _answer(pipe, trials, *message[1:])


def _answer(pipe: connections.Connection, trials: Trials, job: Job, seconds: float) -> None:
    trials.deadline = time.perf_counter() + seconds
    before = trials.runs_trained
    try:
        try:
            trials.do(job)
        except OutOfTimeError:
            pipe.send(("late", trials.runs_trained - before))
        else:
            pipe.send(("done", trials.runs_trained - before))
    except ValueError as error:  # of what was given, and the same in any process
        error.add_note("In a worker:\n" + traceback.format_exc())
        try:
            pipe.send(("error", error))
        except Exception:
            pipe.send(("trouble", f"{type(error).__name__}: {error}"))
    except Exception as error:
        pipe.send(("trouble", f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _configure(config: Mapping[str, Any], policy: keras.DTypePolicy) -> None:
    for name, value in config.items():
        getattr(keras.config, f"set_{name}")(value)
    keras.config.set_dtype_policy(policy)


@contextlib.contextmanager
def _environment(count: int) -> Iterator[None]:
    """The environment in which workers start: each has its part of the cores, and none takes all of a GPU's memory."""
    threads = str(max(1, (os.cpu_count() or 1) // count))
    own = {name: threads for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS") if name not in os.environ}
    own |= {"KERAS_BACKEND": keras.config.backend()}
    own |= {} if "TF_FORCE_GPU_ALLOW_GROWTH" in os.environ else {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
