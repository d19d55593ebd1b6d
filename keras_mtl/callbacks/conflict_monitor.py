"""How much the tasks' gradients agree, stage by stage."""

import keras
import numpy as np


class ConflictMonitor(keras.callbacks.Callback):
    """Measures conflicts between task gradients, whatever the weighting.

    Every `every` steps it takes the task gradients of each shared layer on a
    probe batch and keeps, for each pair of tasks, their cosine and their
    magnitude similarity `2 |g_i| |g_j| / (|g_i|^2 + |g_j|^2)`, and the
    conflict rate: the share of pairs whose cosine is negative. The model runs
    in inference mode on the probe; its state does not change.

    Args:
        x: Inputs of the probe batch.
        y: Dict from task to labels of the probe batch.
        sample_weight: As in `fit`. Defaults to `None`.
        every: Integer. Steps between two measurements. Each costs a forward
            and K backward passes on the probe. Defaults to `100`.

    Attributes:
        layers: List of the shared layers' names.
        tasks: Tuple of the tasks.
        history: List of dicts, one for each measurement: `step`, `cosine` and
            `magnitude_similarity`, both of shape `(layers, K, K)`, `grad_norm`
            of shape `(layers, K)`, `conflict_rate` of shape `(layers,)`, and
            `total_cosine` of shape `(K, K)`, over all layers together.

    At the end of an epoch, `conflict_rate` and `grad_cosine` of the epoch's
    last measurement are added to the logs if they are not there.

    Example:

    >>> inputs = keras.Input((4,))
    >>> hidden = keras.layers.Dense(3)(inputs)
    >>> model = keras_mtl.MultiTaskModel(inputs, {t: keras.layers.Dense(1)(hidden) for t in "ab"})
    >>> model.compile("sgd", loss="mse")
    >>> x, y = np.ones((8, 4)), {t: np.ones((8, 1)) for t in "ab"}
    >>> monitor = keras_mtl.callbacks.ConflictMonitor(x, y, every=1)
    >>> history = model.fit(x, y, callbacks=[monitor], verbose=0)
    >>> monitor.history[-1]["cosine"].shape
    (1, 2, 2)
    """

    def __init__(self, x, y, sample_weight=None, every=100):
        super().__init__()
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"`every` should be an integer of at least 1. Received: every={every!r}")
        self._probe_batch = (x, y, sample_weight)
        self.every = every
        self.history = []
        self.layers, self.tasks = [], ()

    def on_train_begin(self, logs=None):
        # Imported here, since a dashboard may be set up before TensorFlow is.
        from keras_mtl.training.probe import GradientProbe

        self._probe = GradientProbe(self.model)
        self.layers, self.tasks = self._probe.layers, self.model.compiled_tasks.tasks
        self.history, self._step = [], 0

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution=n this is called every n steps.
        before, self._step = self._step, self._step + self.model.steps_per_execution
        if before == 0 or before // self.every != self._step // self.every:
            self.measure()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self.history:
            last = self.history[-1]
            upper = np.triu_indices(len(self.tasks), 1)
            logs.setdefault("conflict_rate", float((last["total_cosine"][upper] < 0).mean()))
            logs.setdefault("grad_cosine", float(last["total_cosine"][upper].mean()))

    def measure(self):
        """Measures now. Returns the newest entry of `history`."""
        gramians = self._probe(*self._probe_batch).astype("float64")
        norms = np.sqrt(np.maximum(np.diagonal(gramians, axis1=1, axis2=2), 0.0))
        products = norms[:, :, None] * norms[:, None, :]
        squares = norms[:, :, None] ** 2 + norms[:, None, :] ** 2
        cosine = _divide(gramians, products)
        upper = np.triu_indices(len(self.tasks), 1)
        total = gramians.sum(axis=0)
        total_norms = np.sqrt(np.maximum(np.diagonal(total), 0.0))
        entry = {
            "step": self._step,
            "cosine": cosine,
            "magnitude_similarity": _divide(2 * products, squares),
            "grad_norm": norms,
            "conflict_rate": (cosine[:, upper[0], upper[1]] < 0).mean(axis=1),
            "total_cosine": _divide(total, total_norms[:, None] * total_norms[None, :]),
        }
        self.history.append(entry)
        return entry


def _divide(a, b):
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
