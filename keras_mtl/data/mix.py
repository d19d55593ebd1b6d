"""Several tasks' data sets as one."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import tensorflow as tf

from keras_mtl._types import Structure
from keras_mtl.data._chooser import Chooser, checked
from keras_mtl.data._pipeline import as_batches
from keras_mtl.data._schema import Schema
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.samplers._registry import get_sampler
from keras_mtl.data.task_stats import TaskStats

if TYPE_CHECKING:
    from keras_mtl.data.samplers.base import Sampler


def mix(
    datasets: Mapping[str, tf.data.Dataset],
    sampler: str | Mapping[str, float] | Sampler | None = None,
    *,
    batch: str | None = None,
    batch_size: int | Mapping[str, int | None] | None = 32,
    stop: str | int = "longest",
    inputs: Literal["shared", "own"] = "shared",
    absent_rows: int = 0,
    ahead: int = 1,
    seed: int | None = None,
) -> Mixture:
    """Mixes the data sets of several tasks into one for `fit`.

    Tasks may have different inputs, sizes and batch sizes. A batch is

    - `"joint"`: one batch of every task, or
    - `"interleave"`: one batch of one task, which a sampler draws.

    What an absent task has of its own, inputs and labels, is empty then: zero
    rows, for which the model computes nothing. Where tasks have inputs in common,
    their rows stand in one batch, and sample weights say which labels are
    there.

    An epoch has a stated number of steps, `mixture.steps`, and the next one
    goes on in the data where it ended. With `N_k` batches in data set k:

    - `stop="longest"`, every data set is gone through: `max N_k` joint steps,
      or `max N_k / p_k` interleaved ones with probabilities `p_k`;
    - `stop="shortest"`, until the first is through: `min N_k`, or
      `min N_k / p_k`;
    - an integer: that many;
    - `stop="once"`, every example once, for evaluation: `max N_k`, or
      `sum N_k`.

    Shorter data sets begin again. Batches are full, except with
    `stop="once"`. Draws being random, interleaved epochs go through a data set
    on average.

    Args:
        datasets: Dict from task to a `tf.data.Dataset` of single examples
            `(x, y)` or `(x, y, sample_weight)`. `x` is a tensor, or a dict
            from the name of a model's input to a tensor; `y` is the task's
            label, or a dict that may have labels of further tasks. Shuffling
            is theirs: `dataset.shuffle(...)`.
        sampler: What draws the task of an interleaved batch: `"uniform"`,
            `"proportional"`, `"temperature"`, `"round_robin"`,
            `"dynamic_task_prioritization"`, `"loss_ratio"`, a dict from task
            to probability, or an object, such as `keras_mtl.data.A5C(...)`,
            with a method `probabilities(step, stats)`. Defaults to `None`:
            `"uniform"` for interleaved batches; joint ones have none.
        batch: `"joint"` or `"interleave"`. Defaults to `None`: `"interleave"`
            if there is a sampler, and with `stop="once"`, where the tasks come
            one after the other.
        batch_size: Integer, dict from task to integer, or `None` for data sets
            of ready batches. Examples of different length are padded with
            zeros. Defaults to `32`.
        stop: `"longest"`, `"shortest"`, `"once"` or the number of steps of an
            epoch. A sampler whose probabilities change takes a number only.
            Defaults to `"longest"`.
        inputs: `"shared"`: inputs of the same name are one input of the model,
            and inputs without names are its only one. `"own"`: every task has
            an input of its own, `<task>_input`, or, where `x` is a dict,
            `<task>_<name>`, as models of `keras_mtl.own_inputs` do. Defaults
            to `"shared"`.
        absent_rows: `0` or `1`. Rows of an absent task's own inputs and labels:
            none, or one of zeros that weighs nothing, for models with
            convolutions or max pooling, which do not take empty batches on
            every device.
            Defaults to `0`.
        ahead: Integer. How many steps in a row a sampler that reads the
            training draws at once. Above 1, draws cost less and lag behind by
            as many steps; with `steps_per_execution=n`, results come every n
            steps, and `ahead=n` draws no later than they do. Defaults to `1`.
        seed: Integer. Of the draws. Defaults to `None`: from the global seed.

    Returns:
        A `keras_mtl.data.Mixture`, which is a `tf.data.Dataset` of `(x, y)` or
        `(x, y, sample_weight)`. `y` and `sample_weight` are dicts by task.

    Raises:
        ValueError: If an argument is out of its range; if data sets do not
            fit together; if one is empty, or endless where the epoch goes by
            its length, or of unknown length where that is needed; if a task
            would never be drawn.

    Example:

    >>> import tensorflow as tf
    >>> def examples(count):
    ...     return tf.data.Dataset.from_tensor_slices((np.ones((count, 3)), np.ones((count, 1))))
    >>> mixture = keras_mtl.data.mix({"a": examples(90), "b": examples(30)}, "proportional", batch_size=10, seed=1)
    >>> mixture.steps
    12
    >>> x, y, weight = next(iter(mixture))
    >>> x.shape, sorted(y), sorted(weight)
    (TensorShape([10, 3]), ['a', 'b'], ['a', 'b'])
    """
    if not isinstance(datasets, dict) or not datasets:
        raise ValueError(f"`datasets` should be a dict from task to `tf.data.Dataset`. Received: {datasets!r}")
    for task, dataset in datasets.items():
        if not isinstance(dataset, tf.data.Dataset):
            raise ValueError(
                f"The data set of task '{task}' should be a `tf.data.Dataset`. Received: {type(dataset).__name__}"
            )
    if inputs not in ("shared", "own"):
        raise ValueError(f"`inputs` should be 'shared' or 'own'. Received: inputs={inputs!r}")
    if absent_rows not in (0, 1):
        raise ValueError(f"`absent_rows` should be 0 or 1. Received: absent_rows={absent_rows!r}")
    if not isinstance(ahead, (int, np.integer)) or ahead < 1:
        raise ValueError(f"`ahead` should be an integer of at least 1. Received: ahead={ahead!r}")
    batch, seed = _kind(batch, sampler, stop), _seed(seed)
    batch_sizes = _batch_sizes(batch_size, datasets)
    lengths = {task: _length(task, dataset) for task, dataset in datasets.items()}
    specs = {t: as_batches(d, batch_sizes[t]).element_spec for t, d in datasets.items()}
    chooser = None
    if batch == "interleave" and stop != "once":
        chooser = Chooser(get_sampler(sampler or "uniform"), TaskStats(lengths), seed, ahead)
        if hasattr(chooser.sampler, "prepare"):
            chooser.sampler.prepare(chooser.stats)
    steps = _steps(stop, batch, lengths, batch_sizes, chooser)
    if chooser is not None:
        chooser.stats.steps_per_epoch = steps
        _check_all_drawn(chooser, steps)
    schema = Schema(specs, inputs, absent_rows)
    return Mixture(
        datasets,
        schema,
        chooser,
        batch=batch,
        batch_sizes=batch_sizes,
        steps=steps,
        once=stop == "once",
        lengths=lengths,
    )


def _kind(batch: str | None, sampler: object, stop: str | int) -> str:
    if batch is None:
        batch = "joint" if sampler is None and stop != "once" else "interleave"
    if batch not in ("joint", "interleave"):
        raise ValueError(f"`batch` should be 'joint' or 'interleave'. Received: batch={batch!r}")
    if sampler is not None and batch == "joint":
        raise ValueError(
            "`sampler` should be left out with joint batches, which hold every task: what each gets is its "
            f"`batch_size`. Received: sampler={sampler!r}"
        )
    if batch == "joint" and stop == "once":
        raise ValueError("`batch` should be left out with stop='once', where tasks come one after the other.")
    if sampler is not None and stop == "once":
        raise ValueError(
            f"`sampler` should be left out with stop='once', where nothing is drawn. Received: sampler={sampler!r}"
        )
    return batch


def _batch_sizes(batch_size: Structure, datasets: Mapping[str, tf.data.Dataset]) -> dict[str, int | None]:
    if not isinstance(batch_size, dict):
        batch_size = dict.fromkeys(datasets, batch_size)
    if set(batch_size) != set(datasets):
        raise ValueError(
            f"`batch_size` should have a number for each of the tasks {list(datasets)}. Received: {list(batch_size)}"
        )
    for task, size in batch_size.items():
        if size is not None and (not isinstance(size, (int, np.integer)) or size < 1):
            raise ValueError(f"`batch_size` of task '{task}' should be an integer of at least 1. Received: {size!r}")
    return {task: batch_size[task] for task in datasets}


def _length(task: str, dataset: tf.data.Dataset) -> float:
    """Number of elements of a data set: infinite, or NaN where it is not known."""
    length = int(dataset.cardinality())
    if length == 0:
        raise ValueError(f"The data set of task '{task}' should have examples. Received: an empty data set")
    if length == tf.data.INFINITE_CARDINALITY:
        return math.inf
    return math.nan if length == tf.data.UNKNOWN_CARDINALITY else length


def _seed(seed: int | None) -> int:
    if seed is None:
        return random.randint(0, 2**31 - 1)  # `keras.utils.set_random_seed` seeds these too
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"`seed` should be an integer of at least 0. Received: seed={seed!r}")
    return int(seed)


def _steps(
    stop: str | int,
    batch: str,
    lengths: Mapping[str, float],
    batch_sizes: Mapping[str, int | None],
    chooser: Chooser | None,
) -> int | None:
    if isinstance(stop, (int, np.integer)) and not isinstance(stop, bool) and stop >= 1:
        return int(stop)
    if stop not in ("longest", "shortest", "once"):
        raise ValueError(
            f"`stop` should be 'longest', 'shortest', 'once' or an integer of at least 1. Received: stop={stop!r}"
        )
    _check_lengths(stop, lengths)
    batches = np.array([length / (batch_sizes[task] or 1) for task, length in lengths.items()])
    if stop == "once":
        steps = np.ceil(batches).sum()
        return None if np.isnan(steps) else int(steps)
    if batch == "interleave":
        batches = batches / _rates(stop, chooser)
    # A hair less, since 90 / 10 / 0.75 is a little more than 12.
    return (
        math.ceil(batches.max() * (1 - 1e-9)) if stop == "longest" else max(1, math.floor(batches.min() * (1 + 1e-9)))
    )


def _check_lengths(stop: str | int, lengths: Mapping[str, float]) -> None:
    for task, length in lengths.items():
        endless = math.isinf(length)
        if endless and stop in ("longest", "once"):
            raise ValueError(
                f"`stop` should be a number of steps or 'shortest', since the data set of task '{task}' is endless. "
                f"Received: stop={stop!r}"
            )
        if math.isnan(length) and stop != "once":
            raise ValueError(
                f"`stop` should be a number of steps, since the length of the data set of task '{task}' is not known; "
                "`dataset.apply(tf.data.experimental.assert_cardinality(n))` states it. "
                f"Received: stop={stop!r}"
            )
    if all(math.isinf(length) for length in lengths.values()):
        raise ValueError(f"`stop` should be a number of steps, since all data sets are endless. Received: {stop!r}")


def _rates(stop: str | int, chooser: Chooser | None) -> np.ndarray:
    """What part of the steps each task has in the long run."""
    rates = getattr(chooser.sampler, "rates", lambda stats: None)(chooser.stats)
    name = type(chooser.sampler).__name__
    if rates is None:
        raise ValueError(
            f"`stop` should be a number of steps, since the probabilities of {name} change as training goes on. "
            f"Received: stop={stop!r}"
        )
    rates = checked(rates, chooser.stats.tasks, chooser.sampler)
    _check_positive(rates, chooser)
    return rates


def _check_positive(rates: np.ndarray, chooser: Chooser | None) -> None:
    for task, rate in zip(chooser.stats.tasks, rates, strict=True):
        if rate == 0:
            raise ValueError(
                f"Every task should be drawn. Received: probability 0 for task '{task}' from "
                f"{type(chooser.sampler).__name__}"
            )


def _check_all_drawn(chooser: Chooser, steps: int | None) -> None:
    """Says what is known beforehand about tasks that an epoch may lack."""
    if getattr(chooser.sampler, "reads", "stats") != "nothing":
        return
    rates = chooser.probabilities()
    _check_positive(rates, chooser)
    for task, rate in zip(chooser.stats.tasks, rates, strict=True):
        missed = (1 - rate) ** steps
        if missed > 0.05:
            warnings.warn(
                f"Task '{task}' has a probability of {rate:.3g}; {missed:.0%} of epochs of {steps} steps will not have "
                "it at all.",
                stacklevel=3,
            )
