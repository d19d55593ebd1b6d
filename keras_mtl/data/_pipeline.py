"""Pipelines from the tasks' data sets to batches for the model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_mtl._types import Structure, Tensor
from keras_mtl.data._schema import EMPTY_LENGTH

if TYPE_CHECKING:
    from keras_mtl.data._chooser import Chooser
    from keras_mtl.data._schema import Schema


def as_batches(dataset: tf.data.Dataset, batch_size: int | None) -> tf.data.Dataset:
    """Batches of a data set of examples; padded where examples differ in length.

    Args:
        dataset: `tf.data.Dataset`.
        batch_size: Integer, or `None` where the data set has batches already.

    Returns:
        `tf.data.Dataset` of batches.
    """
    if batch_size is None:
        return dataset
    specs = tf.nest.flatten(dataset.element_spec)
    shapes = [spec.shape for spec in specs if isinstance(spec, tf.TensorSpec)]
    open_length = any(shape.rank is not None and not shape.is_fully_defined() for shape in shapes)
    return dataset.padded_batch(batch_size) if open_length else dataset.batch(batch_size)


def or_error(dataset: tf.data.Dataset, task: str) -> tf.data.Dataset:
    """An endless data set, or an error where it has an end, which is that it is empty.

    Without it, the end of one task's data would look like the end of an epoch.
    """

    def fail(step: Tensor) -> Structure:
        message = f"The data set of task {task} should have examples. Received: an empty data set"
        with tf.control_dependencies([tf.debugging.Assert(step < 0, [message])]):
            return tf.nest.map_structure(lambda spec: _empty(spec), dataset.element_spec)

    return dataset.concatenate(tf.data.Dataset.range(1).map(fail))


def endless(
    datasets: Mapping[str, tf.data.Dataset],
    batch_sizes: Mapping[str, int | None],
    schema: Schema,
    chooser: Chooser | None,
    copies: int = 1,
) -> tf.data.Dataset:
    """The endless stream of batches, from which epochs are taken.

    Args:
        datasets: Dict from task to `tf.data.Dataset`.
        batch_sizes: Dict from task to integer or `None`.
        schema: `Schema`.
        chooser: `Chooser`, or `None` for joint batches.
        copies: Integer. So many batches in a row are of the same task, one
            for each replica.

    Returns:
        `tf.data.Dataset`.
    """
    batched = {
        task: or_error(as_batches(dataset.repeat(), batch_sizes[task]), task).prefetch(tf.data.AUTOTUNE)
        for task, dataset in datasets.items()
    }
    if chooser is None:
        return merge_batches(batched, batch_sizes, schema).with_options(options())
    branches = [merge_batches({task: dataset}, batch_sizes, schema) for task, dataset in batched.items()]
    choices = _choices(chooser)
    if copies > 1:
        choices = choices.flat_map(lambda task: tf.data.Dataset.from_tensors(task).repeat(copies))
    return tf.data.Dataset.choose_from_datasets(branches, choices).with_options(options())


def once(
    datasets: Mapping[str, tf.data.Dataset], batch_sizes: Mapping[str, int | None], schema: Schema
) -> tf.data.Dataset:
    """Every example of every data set once, one task after the other.

    Args:
        datasets: Dict from task to `tf.data.Dataset`.
        batch_sizes: Dict from task to integer or `None`.
        schema: `Schema`.

    Returns:
        `tf.data.Dataset`.
    """
    varying = dict.fromkeys(datasets)  # the last batch is smaller
    batched = {task: as_batches(dataset, batch_sizes[task]) for task, dataset in datasets.items()}
    parts = [merge_batches({task: dataset}, varying, schema) for task, dataset in batched.items()]
    return functools.reduce(lambda before, part: before.concatenate(part), parts).prefetch(tf.data.AUTOTUNE)


def filled_up(dataset: tf.data.Dataset, size: int, schema: Schema) -> tf.data.Dataset:
    """A data set of batches with some behind that have no task, so many in all."""
    nothing = schema.merge({}, schema.fillers({}))
    return dataset.concatenate(tf.data.Dataset.from_tensors(nothing).repeat()).take(size)


def merge_batches(
    batched: Mapping[str, tf.data.Dataset], batch_sizes: Mapping[str, int | None], schema: Schema
) -> tf.data.Dataset:
    """Batches of some tasks in one, as a data set.

    Args:
        batched: Dict from task to a `tf.data.Dataset` of batches. Other tasks
            are absent.
        batch_sizes: Dict from task to the number of rows, `None` where it
            varies.
        schema: `Schema`.

    Returns:
        `tf.data.Dataset`.
    """
    fillers = schema.fillers({task: batch_sizes[task] for task in batched})
    places = list(fillers)
    if not places:
        return tf.data.Dataset.zip(batched).map(lambda batches: schema.merge(batches, {}))
    # They come as a data set of their own, so that putting them in their places is no operation in the graph.
    constants = tf.data.Dataset.from_tensors(tuple(fillers.values())).repeat()
    both = tf.data.Dataset.zip((batched, constants))
    return both.map(lambda batches, values: schema.merge(batches, dict(zip(places, values, strict=True))))


def _choices(chooser: Chooser) -> tf.data.Dataset:
    """Endless data set of tasks, drawn as it is gone through."""

    def ask(turn: Tensor) -> Tensor:
        del turn
        return tf.ensure_shape(tf.numpy_function(chooser.block, [], tf.int64, stateful=True), (None,))

    return tf.data.Dataset.range(np.iinfo("int64").max).map(ask).unbatch()


def _empty(spec: tf.TypeSpec) -> Tensor:
    return tf.zeros([0, *(EMPTY_LENGTH if size is None else size for size in spec.shape[1:])], spec.dtype)


def options() -> tf.data.Options:
    """Options under which nothing is drawn before the training step asks for it, and positions can be saved."""
    chosen = tf.data.Options()
    chosen.autotune.enabled = False
    chosen.experimental_optimization.inject_prefetch = False
    chosen.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return chosen
