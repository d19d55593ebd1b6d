"""Training runs of a comparison, each kept in a file once it is whole."""

import hashlib
import json
import os
import time

import keras
import numpy as np

from keras_mtl.files import writable_folder


class RunStore:
    """Keeps finished runs in a folder, so that a killed comparison goes on.

    Args:
        directory: Path of the folder, or `None` to keep nothing.
        settings: What the runs depend on. Runs made under other settings are
            not used again.
    """

    def __init__(self, directory, settings):
        self._directory = None if directory is None else writable_folder(directory, "directory")
        self._digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]

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
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, or a data set.
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
    history = model.fit(**_arguments(data), epochs=epochs, validation_data=validation, verbose=0, **options)
    seconds = time.perf_counter() - start
    batch_size = {k: v for k, v in fit_options.items() if k == "batch_size"}
    values = model.evaluate(**_arguments(test), return_dict=True, verbose=0, **batch_size)
    return {
        "values": {name: float(value) for name, value in values.items() if np.ndim(value) == 0},
        "curves": {name: [float(v) for v in curve] for name, curve in history.history.items() if np.ndim(curve) == 1},
        "parameters": sum(int(np.prod(w.shape)) for layer in model.layers for w in layer.trainable_weights),
        "step_ms": clock.milliseconds(),
        "seconds": seconds,
    }


def labels_of(data, task, condition=None, columns=()):
    """The same data with the labels and sample weights of one task alone.

    Args:
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset`
            of such tuples, or `None`.
        task: String. The task.
        condition: `None`, or another task: examples whose label of it is not 1
            get sample weight 0, and so count as unlabelled.
        columns: Names of what its metrics and penalties read beside the labels.

    Returns:
        As `data`.
    """

    def select(x, y, sample_weight=None, inside=None):
        weight = sample_weight.get(task) if isinstance(sample_weight, dict) else sample_weight
        if inside is not None:
            weight = inside if weight is None else inside * weight
        labels = {name: y[name] for name in (task, *columns) if name in y}
        return (x, labels) if weight is None else (x, labels, {task: weight})

    def select_tensors(x, y, sample_weight=None):
        inside = None if condition is None else keras.ops.cast(keras.ops.equal(y[condition], 1), "float32")
        return select(x, y, sample_weight, inside)

    if data is None:
        return None
    if not isinstance(data, tuple):
        return data.map(select_tensors)
    x, y, *weight = data
    inside = None if condition is None else (np.asarray(y[condition]) == 1).astype("float32")
    return select(x, y, weight[0] if weight else None, inside)


def _arguments(data):
    """Data as keyword arguments: the third positional one of `fit` is the batch size."""
    return dict(zip(("x", "y", "sample_weight"), data if isinstance(data, tuple) else (data,), strict=False))


class StepClock(keras.callbacks.Callback):
    """Milliseconds of a step: the median, so that tracing does not count.

    Where it has seen several trainings, as of a `GroupedModel`'s networks, a
    step is one of each.
    """

    def __init__(self):
        super().__init__()
        self._trainings, self._start = [], 0.0

    def on_train_begin(self, logs=None):
        self._trainings.append([])

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution=n this is called every n steps.
        self._trainings[-1].append((time.perf_counter() - self._start) / self.model.steps_per_execution)

    def milliseconds(self):
        """The median of the steps so far; 0 before the first."""
        return 1000 * sum(float(np.median(times)) for times in self._trainings if times)
