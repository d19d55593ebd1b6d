"""Cosines between task gradients, for each stage."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_mtl._checks import is_integer
from keras_mtl._types import Structure
from keras_mtl.callbacks._copied import CopiedCallback


class ConflictMonitor(CopiedCallback):
    """Measures conflicts between task gradients, whatever the weighting.

    Every `every` steps, and at least once an epoch, it takes the task
    gradients of each shared layer (a stage, in what the builders make) on a
    probe batch. For each pair of tasks it keeps their cosine and their
    magnitude similarity `2 |g_i| |g_j| / (|g_i|^2 + |g_j|^2)`. Two tasks are
    in conflict where their cosine is negative. The model runs in inference
    mode on the probe; its state does not change.

    At the end of an epoch it adds to the logs, over all shared layers together
    and as means over the epoch's measurements:

    - `<task>_grad_norm`, of the loss times its static weight; `grad_cosine`,
      `grad_cosine_<task>_<task>` and `conflict_rate`. A weighting that sees
      task gradients logs some of these by itself, over every step; its own
      stay.
    - `<task>_grad_share`, how much of the trunk's update is the task's:
      `w_k |g_k| / sum_j w_j |g_j|`, with the logged task weights `w`.

    Callbacks that read the logs, `TaskBoard` and Keras' `TensorBoard` among
    them, come after it in the list.

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
            of shape `(layers, K)`, of the losses without weights,
            `conflict_rate` of shape `(layers,)`, the share of pairs in
            conflict, and `total_cosine` and `total_magnitude_similarity`, of
            shape `(K, K)`, and `total_grad_norm`, of shape `(K,)`, over all
            layers together.

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

    _of_training = ("_probe",)

    def __init__(
        self, x: Structure, y: Mapping[str, npt.ArrayLike], sample_weight: Structure | None = None, every: int = 100
    ) -> None:
        super().__init__()
        if not is_integer(every) or every < 1:
            raise ValueError(f"`every` should be an integer of at least 1. Received: every={every!r}")
        self._probe_batch = (x, y, sample_weight)
        self.every = every
        self.history = []
        self.layers, self.tasks = [], ()
        self._step = self._epoch_start = 0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        # Imported here, since a dashboard may be set up before TensorFlow is.
        from keras_mtl.callbacks._gradient_probe import GradientProbe

        self._probe = GradientProbe(self.model)
        self.layers, self.tasks = self._probe.layers, self.model.compiled_tasks.tasks
        self.history, self._step = [], 0
        self._steps_at_once = self.model.steps_per_execution

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch_start = len(self.history)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # With steps_per_execution=n this is called every n steps.
        before, self._step = self._step, self._step + self._steps_at_once
        if before == 0 or before // self.every != self._step // self.every:
            self.measure()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if len(self.history) == self._epoch_start:
            self.measure()
        if logs is not None:
            for name, value in self._epoch_logs(logs).items():
                logs.setdefault(name, value)

    def measure(self) -> dict[str, Any]:
        """Measures now. Returns the newest entry of `history`."""
        gramians = self._probe(*self._probe_batch).astype("float64")
        by_layer, total = _compared(gramians), _compared(gramians.sum(axis=0))
        entry = {"step": self._step, **by_layer, **{f"total_{name}": value for name, value in total.items()}}
        self.history.append(entry)
        return entry

    def conflict_rates(self, entries: Sequence[Mapping[str, Any]] | None = None) -> np.ndarray:
        """How often each pair of tasks was in conflict.

        Args:
            entries: List of entries of `history`. Defaults to all.

        Returns:
            Array of shape `(layers, K, K)`: the share of the measurements in
            which the pair's cosine was negative.
        """
        return np.mean([entry["cosine"] < 0 for entry in entries or self.history], axis=0)

    @property
    def epoch_entries(self) -> list[dict[str, Any]]:
        """The entries of `history` of the epoch that runs or has just ended."""
        return self.history[self._epoch_start :]

    def epoch_mean(self, name: str) -> np.ndarray:
        """Mean of one value over the measurements of the epoch.

        Args:
            name: String. A key of the entries of `history`.

        Returns:
            Array.
        """
        return np.mean([entry[name] for entry in self.epoch_entries], axis=0)

    def grad_shares(self, weights: Sequence[float | None], norms: str = "grad_norm") -> np.ndarray:
        """How much of each layer's update is whose, as means over the epoch.

        Args:
            weights: Sequence of K task weights, static and dynamic together.
            norms: String. The key of `history` to take norms from. Defaults to
                `"grad_norm"`; `"total_grad_norm"` for all layers together.

        Returns:
            Array of shape `(layers, K)`, or `(K,)`, with sums of 1 (0 where
            there is no gradient): `w_k |g_k| / sum_j w_j |g_j|`.
        """
        pulls = np.asarray(weights, "float64") * self.epoch_mean(norms)
        total = pulls.sum(axis=-1, keepdims=True)
        return _divide(pulls, np.broadcast_to(total, pulls.shape))

    def _epoch_logs(self, logs: Mapping[str, Any]) -> dict[str, float]:
        found = {}
        static = self.model.task_weights()
        for task, norm in zip(self.tasks, self.epoch_mean("total_grad_norm"), strict=True):
            found[f"{task}_grad_norm"] = float(norm * static[task])
        if len(self.tasks) > 1:
            upper = np.triu_indices(len(self.tasks), 1)
            measured = [entry["total_cosine"][upper] for entry in self.epoch_entries]
            cosines = np.mean(measured, axis=0)
            found["grad_cosine"] = float(cosines.mean())
            found["conflict_rate"] = float(np.mean(np.array(measured) < 0))
            for (a, b), cosine in zip(itertools.combinations(self.tasks, 2), cosines, strict=True):
                found[f"grad_cosine_{a}_{b}"] = float(cosine)
        weights = [logs.get(f"{task}_weight") for task in self.tasks]
        if None not in weights:
            shares = self.grad_shares(weights, "total_grad_norm")
            found.update({f"{task}_grad_share": float(s) for task, s in zip(self.tasks, shares, strict=True)})
        return found


def _compared(gramians: np.ndarray) -> dict[str, Any]:
    """Cosines, magnitude similarities, norms and conflict rate of Gramians of shape `(..., K, K)`."""
    norms = np.sqrt(np.maximum(np.diagonal(gramians, axis1=-2, axis2=-1), 0.0))
    products = norms[..., :, None] * norms[..., None, :]
    squares = norms[..., :, None] ** 2 + norms[..., None, :] ** 2
    cosine = _divide(gramians, products)
    first, second = np.triu_indices(gramians.shape[-1], 1)
    return {
        "cosine": cosine,
        "magnitude_similarity": _divide(2 * products, squares),
        "grad_norm": norms,
        "conflict_rate": (cosine[..., first, second] < 0).mean(axis=-1) if len(first) else np.zeros(norms.shape[:-1]),
    }


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
