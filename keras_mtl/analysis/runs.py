"""Training runs of a comparison, each kept in a file once it is whole."""

import hashlib
import json
import os
import pathlib
import time

import keras
import numpy as np


class RunStore:
    """Keeps finished runs in a folder, so that a killed comparison goes on.

    Args:
        directory: Path of the folder, or `None` to keep nothing.
        settings: What the runs depend on. Runs made under other settings are
            not used again.
    """

    def __init__(self, directory, settings):
        self._directory = None if directory is None else pathlib.Path(directory)
        self._digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
        if self._directory is not None:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"`directory` should be writable. Received: {directory!r} ({error})") from error

    def load(self, name, seed):
        """The run of a candidate and seed, or `None` if there is none."""
        path = self._path(name, seed)
        if path is None or not path.exists():
            return None
        run = json.loads(path.read_text())
        return run if run["settings"] == self._digest else None

    def save(self, name, seed, run):
        """Keeps a run. The file appears at once or not at all."""
        path = self._path(name, seed)
        if path is not None:
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps({**run, "settings": self._digest}))
            os.replace(part, path)

    def _path(self, name, seed):
        if self._directory is None:
            return None
        safe = "".join(c if c.isalnum() else "-" for c in name)
        digest = hashlib.sha256(name.encode()).hexdigest()[:6]
        return self._directory / f"{safe}-{digest}-seed{seed}.json"


def train_and_evaluate(model, data, validation, test, epochs, fit_options):
    """Trains a compiled model and evaluates it once, after the last epoch.

    Args:
        model: Compiled `MultiTaskModel`.
        data: What `fit` takes as training data, as a tuple of its positional
            arguments or a data set.
        validation: Same, for validation curves; may be `None`.
        test: Same, for the final values.
        epochs: Integer.
        fit_options: Dict of further arguments of `fit`.

    Returns:
        Dict of the final values, the curves, parameters and times.
    """
    clock = StepClock()
    options = dict(fit_options)
    options["callbacks"] = [*options.get("callbacks", ()), clock]
    start = time.perf_counter()
    history = model.fit(*_arguments(data), epochs=epochs, validation_data=validation, verbose=0, **options)
    seconds = time.perf_counter() - start
    batch_size = {k: v for k, v in fit_options.items() if k == "batch_size"}
    values = model.evaluate(*_arguments(test), return_dict=True, verbose=0, **batch_size)
    return {
        "values": {name: float(value) for name, value in values.items() if np.ndim(value) == 0},
        "curves": {name: [float(v) for v in curve] for name, curve in history.history.items() if np.ndim(curve) == 1},
        "parameters": sum(int(np.prod(w.shape)) for layer in model.layers for w in layer.trainable_weights),
        "step_ms": clock.milliseconds(),
        "seconds": seconds,
    }


def labels_of(data, tasks):
    """The same data with the labels and sample weights of some tasks alone.

    Args:
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset`
            of such tuples, or `None`.
        tasks: List of task names.

    Returns:
        As `data`.
    """

    def select(x, *others):
        return (x, *({t: o[t] for t in tasks if t in o} if isinstance(o, dict) else o for o in others))

    if data is None or not isinstance(data, tuple):
        return None if data is None else data.map(select)
    return select(*data)


def _arguments(data):
    return data if isinstance(data, tuple) else (data,)


class StepClock(keras.callbacks.Callback):
    """Milliseconds of a step: the median, so that tracing does not count."""

    def __init__(self):
        super().__init__()
        self._times, self._start = [], 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution=n this is called every n steps.
        self._times.append((time.perf_counter() - self._start) / self.model.steps_per_execution)

    def milliseconds(self):
        """The median of the steps so far; 0 before the first."""
        return 1000 * float(np.median(self._times)) if self._times else 0.0
