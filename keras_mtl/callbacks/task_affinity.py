"""How much a step for one task helps each of the others, measured during `fit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_mtl._checks import check_boolean, is_integer
from keras_mtl._types import Data, Structure
from keras_mtl.callbacks._copied import CopiedCallback
from keras_mtl.metrics._affinity import Affinity


class TaskAffinity(CopiedCallback):
    """Measures affinities between tasks during one ordinary training run.

    Every `every` steps it takes a batch and looks ahead: for each task i, the
    shared variables make a step for that task alone,
    `theta_i = theta - lr * dL_i/dtheta`, and the affinity of i on j is how
    much of task j's loss that step takes away on the same batch, heads
    unchanged:

    `Z[i, j] = 1 - L_j(theta_i) / L_j(theta)`

    Affinities are means over all measurements. The cosines of the task
    gradients are by-products. Nothing in the model changes.

    A measurement costs a forward and K backward passes, and K more forward
    passes: about K optimizer steps. With 10 tasks and `every=10`, training
    takes about twice its time.

    Args:
        x: Inputs of the training data: arrays, as `fit` takes them, from which
            batches are drawn at random, or a `tf.data.Dataset` of batches.
        y: Dict from task to labels. Defaults to `None`, for a data set.
        sample_weight: As in `fit`. Defaults to `None`.
        batch_size: Integer. Examples of a batch, drawn from arrays. Defaults
            to `32`.
        every: Integer. Steps between two measurements. Defaults to `10`.
        learning_rate: Float. Size of the steps. Defaults to `None`: the
            optimizer's learning rate at the time.
        with_momentum: Boolean. Whether the look ahead is the step of the model's
            SGD with its momentum, not one of plain gradient descent. Defaults
            to `False`.
        seed: Integer. Which batches are drawn. Defaults to `0`.

    Attributes:
        history: List of dicts, one for each measurement: `step`, `affinity`
            and `cosine`, both of shape `(K, K)`, NaN for pairs of tasks that
            did not both have labels.

    Example:

    >>> inputs = keras.Input((4,))
    >>> hidden = keras.layers.Dense(3)(inputs)
    >>> model = keras_mtl.MultiTaskModel(inputs, {t: keras.layers.Dense(1)(hidden) for t in "ab"})
    >>> model.compile("sgd", loss="mse")
    >>> x, y = np.ones((8, 4)), {t: np.ones((8, 1)) for t in "ab"}
    >>> measure = keras_mtl.callbacks.TaskAffinity(x, y, batch_size=8, every=1)
    >>> history = model.fit(x, y, callbacks=[measure], verbose=0)
    >>> measure.affinity().values.shape
    (2, 2)

    Reference:

    - C. Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning", NeurIPS 2021.

    Deviations: batches are drawn from the training data beside the ones that
    the optimizer sees; the model runs in inference mode, so that dropout does
    not add noise to the differences; where a loss is negative, its absolute
    value is the divisor.
    """

    _of_training = ("_look", "_batches")

    def __init__(
        self,
        x: Structure,
        y: Mapping[str, npt.ArrayLike] | None = None,
        sample_weight: Structure | None = None,
        batch_size: int = 32,
        every: int = 10,
        learning_rate: float | None = None,
        with_momentum: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not is_integer(every) or every < 1:
            raise ValueError(f"`every` should be an integer of at least 1. Received: every={every!r}")
        if y is None and isinstance(x, np.ndarray):
            raise ValueError("`y` should be a dict from task to labels where `x` is an array. Received: y=None")
        self._data = (x, y, sample_weight)
        self.batch_size, self.every, self.seed = batch_size, every, seed
        self.learning_rate, self.with_momentum = learning_rate, check_boolean(with_momentum, "with_momentum")
        self.tasks, self.history = (), []

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        # Imported here, so that a callback may be set up before TensorFlow is.
        from keras_mtl.callbacks._look_ahead import LookAhead

        self._look = LookAhead(self.model, self.with_momentum)
        self.tasks = self.model.compiled_tasks.tasks
        self.history, self._step = [], 0
        self._steps_at_once = self.model.steps_per_execution
        self._batches = self._draw() if self._data[1] is not None else self._read()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # With steps_per_execution=n this is called every n steps.
        before, self._step = self._step, self._step + self._steps_at_once
        if before == 0 or before // self.every != self._step // self.every:
            self.measure()

    def measure(self) -> dict[str, Any]:
        """Measures now. Returns the newest entry of `history`."""
        x, y, sample_weight = next(self._batches)
        glance = self._look(x, y, sample_weight, self.learning_rate)
        before = glance.before.astype("float64")
        gains = (before - glance.after.astype("float64")) / np.where(before == 0, np.nan, np.abs(before))
        gramian = glance.gramian.astype("float64")
        norms = np.sqrt(np.maximum(np.diagonal(gramian), 0.0))
        products = norms[:, None] * norms[None, :]
        cosines = np.divide(gramian, products, out=np.zeros_like(gramian), where=products > 0)
        both = (glance.present[:, None] * glance.present[None, :]) > 0
        entry = {
            "step": self._step,
            "affinity": np.where(both, gains, np.nan),
            "cosine": np.where(both, cosines, np.nan),
        }
        self.history.append(entry)
        return entry

    def affinity(self, kind: str = "affinity", skip: int = 0) -> Affinity:
        """Means over the measurements.

        Args:
            kind: `"affinity"`, the looks ahead, or `"cosine"`, of the task
                gradients. Defaults to `"affinity"`.
            skip: Integer. How many measurements to leave out at the beginning.
                Defaults to `0`.

        Returns:
            A `keras_mtl.analysis.Affinity`: rows are sources, columns targets.
        """
        if kind not in ("affinity", "cosine"):
            raise ValueError(f"`kind` should be 'affinity' or 'cosine'. Received: kind={kind!r}")
        values = np.array([entry[kind] for entry in self.history[skip:]])
        if not len(values):
            raise ValueError(f"There should be measurements to average. Received: {len(self.history)}, skip={skip}")
        known = np.isfinite(values)
        counts = known.sum(axis=0)
        sums = np.where(known, values, 0.0).sum(axis=0)
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        return Affinity(self.tasks, means, "look-ahead affinity" if kind == "affinity" else "cosine of task gradients")

    def _draw(self) -> Iterator[Data]:
        """Random batches of arrays, for ever."""
        rng = np.random.default_rng(self.seed)
        size = len(keras.tree.flatten(self._data[0])[0])
        while True:
            places = rng.choice(size, min(self.batch_size, size), replace=False)
            yield keras.tree.map_structure(
                lambda a, places=places: None if a is None else np.asarray(a)[places], self._data
            )

    def _read(self) -> Iterator[tuple[Any, ...]]:
        """Batches of a data set, for ever."""
        while True:
            empty = True
            for batch in self._data[0]:
                empty = False
                yield keras.utils.unpack_x_y_sample_weight(batch)
            if empty:
                raise ValueError("`x` should yield batches. Received: a data set without any")
