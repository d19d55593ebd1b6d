"""A data set made of the data sets of several tasks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_mtl._tensorflow_private import DatasetOf
from keras_mtl._types import Structure
from keras_mtl.data import _pipeline as pipeline
from keras_mtl.data._feedback import Feedback
from keras_mtl.data._model_check import check_normalization
from keras_mtl.data.backup_position import Position, read_position

if TYPE_CHECKING:
    from keras_mtl.data._chooser import Chooser
    from keras_mtl.data._schema import Schema
    from keras_mtl.data.samplers.base import Sampler
    from keras_mtl.data.task_stats import TaskStats
    from keras_mtl.models.multi_task_model import MultiTaskModel


class Mixture(DatasetOf):
    """What `keras_mtl.data.mix` returns: a `tf.data.Dataset` of batches.

    One iteration is one epoch. The next one goes on in the tasks' data where
    the last one stopped, so that data sets longer than an epoch are seen as a
    whole; with `stop="once"` it begins anew.

    `MultiTaskModel.fit` and `evaluate` take it as it is: they add its
    callback, check its names, and spread it over the replicas of a
    `tf.distribute` strategy. After `map` or `prefetch` it is a plain data set
    that knows nothing of the model: pass `callbacks=[mixture.callback]` then.

    Attributes:
        tasks: Tuple of the tasks.
        steps: Integer. Steps per epoch; `None` where `stop="once"` and a size
            is not known.
        sampler: The sampler; `None` for joint batches and `stop="once"`.
        stats: `TaskStats`, or `None` where there is no sampler.
        callback: The callback that tells the sampler how training goes and
            logs counts and probabilities; `None` where there is no sampler.
        position: Trackable: where the mixture is in its data, for
            `tf.train.Checkpoint(mixture=mixture.position)`.
    """

    def __init__(
        self,
        datasets: Mapping[str, tf.data.Dataset],
        schema: Schema,
        chooser: Chooser | None,
        *,
        batch: str,
        batch_sizes: Mapping[str, int | None],
        steps: int | None,
        once: bool,
        lengths: Mapping[str, float],
    ) -> None:
        self.tasks = tuple(datasets)
        self.steps = steps
        self.batch_sizes = batch_sizes
        self._datasets = datasets
        self._schema = schema
        self._chooser = chooser
        self._batch = batch
        self._once = once
        self._lengths = lengths
        self.callback = None if chooser is None else Feedback(self.tasks, chooser)
        self.position = Position(chooser, self._about())
        if once:
            inner = pipeline.once(datasets, batch_sizes, schema)
            inner = inner if steps is None else inner.apply(tf.data.experimental.assert_cardinality(steps))
        else:
            inner = self._window(pipeline.endless(datasets, batch_sizes, schema, chooser), steps)
        super().__init__(inner)

    @property
    def sampler(self) -> Sampler | None:
        return None if self._chooser is None else self._chooser.sampler

    @property
    def stats(self) -> TaskStats | None:
        return None if self._chooser is None else self._chooser.stats

    def save_position(self, path: str | os.PathLike) -> None:
        """Writes where the mixture is in its data: streams, sampler, random numbers.

        Buffers of `shuffle` are part of it, so the file can be as large as
        they are. Under a `tf.distribute` strategy, the few batches that are on
        their way to the replicas count as read.

        Args:
            path: String. Prefix of the files.
        """
        self.check_position()
        try:
            tf.train.Checkpoint(position=self.position).write(str(path))
        except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError) as error:
            raise ValueError(
                "The data sets should be able to say where they are, which those from Python generators are not. "
                f"TensorFlow says: {error.message}"
            ) from error

    def restore_position(self, path: str | os.PathLike) -> None:
        """Goes on where the mixture was when `save_position` wrote the file.

        Args:
            path: String, as it was given to `save_position`.

        Raises:
            ValueError: If nothing whole is there, or it is of a mixture of
                other tasks, data sets, batches or another sampler.
        """
        self.check_position()
        read_position(self.position, str(path))

    def check_position(self) -> None:
        """Raises where a mixture has no position to save."""
        if self._once:
            raise ValueError("A mixture with stop='once' begins anew every time and should not need a position.")

    def _about(self) -> dict[str, str]:
        """What two mixtures have to have in common where one goes on from the other's position."""
        about = {"its tasks": str(list(self.tasks)), "`batch`": self._batch, "its sampler": type(self.sampler).__name__}
        for task, dataset in self._datasets.items():
            about[f"`batch_size` of task '{task}'"] = str(self.batch_sizes[task])
            about[f"the number of examples of task '{task}'"] = str(self._lengths[task])
            about[f"the examples of task '{task}'"] = str(dataset.element_spec)
        return about

    def prepare_for(
        self, model: MultiTaskModel, steps_per_epoch: int | None = None, training: bool = True
    ) -> Structure:
        """What `fit` and `evaluate` of a multi-task model take for it.

        Args:
            model: A compiled `MultiTaskModel`.
            steps_per_epoch: What `fit` was given. Defaults to `None`.
            training: Boolean. Defaults to `True`.

        Returns:
            A data set, its number of steps, `None` where it says so itself,
            and a list of callbacks.

        Raises:
            ValueError: If the model needs inputs that the tasks' data sets
                lack, has batch normalization that would see empty batches, or
                `steps_per_epoch` is not the mixture's own.
        """
        if steps_per_epoch not in (None, self.steps):
            raise ValueError(
                f"`steps_per_epoch` should be left out: an epoch of the mixture has {self.steps} steps, which `stop` "
                f"sets. Received: steps_per_epoch={steps_per_epoch}"
            )
        check_normalization(model, self._schema, absent=self._once or self._batch == "interleave", training=training)
        strategy, data, steps = getattr(model, "distribute_strategy", None), self, None
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            data = strategy.distribute_datasets_from_function(self._for_replicas)
            steps = self._steps_of_replicas(strategy.num_replicas_in_sync) if self._once else self.steps
        elif not self._once and self.steps % model.steps_per_execution == 0:
            data = _Endless(self._given, self.position.stream)
        return data, steps, [] if self.callback is None else [self.callback]

    def _for_replicas(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """The mixture of one input pipeline under a distribution strategy."""
        replicas, pipelines = context.num_replicas_in_sync, context.num_input_pipelines
        if pipelines > 1 and self._chooser is not None and self._chooser.live:
            raise ValueError(
                f"Several workers cannot agree on what {type(self.sampler).__name__} reads from training, so the "
                "sampler should be one that goes by steps alone. Received: a live sampler with "
                f"{pipelines} input pipelines"
            )
        sizes, datasets = self._sizes_of_replicas(replicas), self._datasets
        if pipelines > 1:
            index = context.input_pipeline_id
            datasets = {task: dataset.shard(pipelines, index) for task, dataset in datasets.items()}
        if self._once:
            data = pipeline.once(datasets, sizes, self._schema)
            steps = self._steps_of_replicas(replicas)
            # The iterator is not made anew: where it has gone round, all replicas should be at the beginning.
            return (
                data
                if steps is None
                else pipeline.filled_up(data, steps * replicas // pipelines, self._schema).repeat()
            )
        stream = pipeline.endless(datasets, sizes, self._schema, self._chooser, copies=replicas // pipelines)
        return self._window(stream, steps=np.iinfo("int64").max)

    def _sizes_of_replicas(self, replicas: int) -> dict[str, int]:
        for task, size in self.batch_sizes.items():
            if size is None or size % replicas:
                raise ValueError(
                    f"`batch_size` of task '{task}' should be a multiple of the number of replicas, {replicas}. "
                    f"Received: batch_size={size}"
                )
        return {task: size // replicas for task, size in self.batch_sizes.items()}  # type: ignore[operator]

    def _steps_of_replicas(self, replicas: int) -> int | None:
        """Steps in which every example comes once, each with a batch for every replica."""
        if self.steps is None:
            return None
        sizes = self._sizes_of_replicas(replicas)
        batches = [math.ceil(length / sizes[task]) for task, length in self._lengths.items()]
        return math.ceil(sum(batches) / replicas)

    def _window(self, stream: tf.data.Dataset, steps: int | None) -> tf.data.Dataset:
        """So many steps of a stream, which go on where the last ones ended."""
        iterator = self.position.stream = iter(stream)
        window = tf.data.Dataset.range(steps).map(lambda step: iterator.get_next())
        return window.with_options(pipeline.options())


class _Endless(DatasetOf):
    """A mixture for a `fit` that counts the steps of an epoch itself.

    Every epoch goes on with the one iterator of the stream. To call that from
    a data set of one epoch, as a mixture does elsewhere, would cost about as
    much as a small batch.
    """

    def __init__(self, window: tf.data.Dataset, iterator: Iterator[Structure] | None) -> None:
        super().__init__(window)
        self._iterator = iterator

    def __iter__(self) -> Structure:
        return self._iterator
