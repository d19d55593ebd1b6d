"""Measuring affinities between tasks in one training run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl._checks import check_boolean
from keras_mtl._keras_private import global_seed
from keras_mtl._types import Data, Structure
from keras_mtl.analysis._progress import EpochBar
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.representation_similarity import representation_similarity
from keras_mtl.callbacks import TaskAffinity
from keras_mtl.metrics._affinity import Affinity

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.grouped_model import GroupedModel
    from keras_mtl.models.multi_task_model import MultiTaskModel

METHODS = ("look_ahead", "cosine", "representation")


def measure_affinity(
    model: MultiTaskModel | GroupedModel,
    data: Data,
    *,
    method: str = "look_ahead",
    epochs: int = 10,
    every: int = 10,
    batch_size: int = 32,
    with_momentum: bool = False,
    examples: int = 300,
    directory: str | os.PathLike | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> Affinity:
    """Trains a model once and measures how much its tasks help each other.

    Args:
        model: A compiled `MultiTaskModel`, which is trained: all tasks in one
            network for `"look_ahead"` and `"cosine"`, columns that share
            nothing (or a `GroupedModel` of networks of one task each) for
            `"representation"`.
        data: Training data: a data set, or a tuple `(x, y)` or
            `(x, y, sample_weight)`.
        method: String:

            - `"look_ahead"`: how much of each task's loss a step for another
              one takes away (see `keras_mtl.callbacks.TaskAffinity`).
            - `"cosine"`: cosines of the task gradients of the shared
              variables.
            - `"representation"`: how alike the features are that tasks learn
              by themselves, after training, mean over the stages (see
              `representation_similarity`).

            Defaults to `"look_ahead"`.
        epochs: Integer. Defaults to `10`.
        every: Integer. Steps between two measurements. Defaults to `10`.
        batch_size: Integer. For training, and for measurements on arrays.
            Defaults to `32`.
        with_momentum: Boolean. Whether looks ahead have the momentum of the model's
            SGD. Defaults to `False`.
        examples: Integer. How many examples `"representation"` compares, from
            arrays. Defaults to `300`.
        directory: Path of a folder. What was measured is kept there, and read
            if nothing differs that could change it, as in `compare`; the model
            is then not trained. Defaults to `None`.
        progress: Boolean. Whether to show progress. Defaults to `True`.
        **fit_options: Further arguments of `fit`.

    Returns:
        An `Affinity`. Rows are sources, columns are targets.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> y = {"a": x[:, 0], "b": x[:, 0] + x[:, 1], "c": x[:, 2]}
    >>> heads = {task: keras.layers.Dense(1) for task in y}
    >>> model = keras_mtl.hard_sharing(keras.Input((4,)), [keras.layers.Dense(3)], heads)
    >>> model.compile("sgd", loss="mse")
    >>> affinity = keras_mtl.analysis.measure_affinity(model, (x, y), epochs=2, every=1, progress=False)
    >>> affinity.tasks
    ('a', 'b', 'c')
    """
    check_boolean(with_momentum, "with_momentum")
    check_boolean(progress, "progress")
    if method not in METHODS:
        raise ValueError(f"`method` should be one of {METHODS}. Received: method={method!r}")
    if method == "representation" and model.shared_variables:
        raise ValueError(
            "`model` should have columns that share nothing for method 'representation'. Received: shared variables "
            f"{[v.path for v in model.shared_variables][:5]}"
        )
    how: dict[str, Any] = {
        "method": method,
        "every": every,
        "with_momentum": with_momentum,
        "examples": examples,
        "epochs": epochs,
    }
    with RunStore(directory, data=data, batch_size=batch_size, fit=fit_options, how=how) as store:
        key = store.key(model=model, seed=global_seed())
        run = store.load(key, {"values": dict}, check=lambda run: Affinity.from_dict(run["values"]))
        if run is None:
            affinity = _measured(model, data, batch_size=batch_size, progress=progress, fit_options=fit_options, **how)
            store.save(key, f"affinity {method}", {"values": affinity.to_dict()})
        else:
            affinity = Affinity.from_dict(run["values"])
    store.say(progress)
    return affinity


def _measured(
    model: Structure,
    data: Data,
    *,
    method: str,
    epochs: int,
    every: int,
    batch_size: int,
    with_momentum: bool,
    examples: int | None,
    progress: bool,
    fit_options: dict[str, Any],
) -> Affinity:
    of_arrays = isinstance(data, tuple)
    callbacks = [*(fit_options.pop("callbacks", ()) or ())]
    watch = None
    if method != "representation":
        x, y, sample_weight = (*data, None)[:3] if of_arrays else (data, None, None)
        watch = TaskAffinity(x, y, sample_weight, batch_size, every, with_momentum=with_momentum)
        callbacks.append(watch)
    if progress:
        callbacks.append(EpochBar(f"affinity ({method})"))
    arguments = dict(zip(("x", "y", "sample_weight"), data if of_arrays else (data,), strict=False))
    if of_arrays:
        arguments["batch_size"] = batch_size
    model.fit(**arguments, epochs=epochs, callbacks=callbacks, verbose=0, **fit_options)
    if watch is not None:
        return watch.affinity("affinity" if method == "look_ahead" else "cosine")
    similarities = representation_similarity(model, _first(data, examples)).values()
    mean = np.mean([similarity.values for similarity in similarities], axis=0)
    return Affinity(model.tasks, mean, "similarity of features, mean over stages")


def _first(data: Data, examples: int | None) -> Data:
    """Inputs of the first examples; of a data set, of its first batch."""
    x = data[0] if isinstance(data, tuple) else keras.utils.unpack_x_y_sample_weight(next(iter(data)))[0]
    return keras.tree.map_structure(lambda a: np.asarray(a)[:examples], x)
