"""A data set made of the data sets of several tasks."""

import numpy as np
import tensorflow as tf

from keras_mtl.data.feedback import Feedback
from keras_mtl.data.layout import EMPTY_LENGTH, Layout
from keras_mtl.data.position import Position


class Mixture(tf.data.Dataset):
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

    def __init__(self, datasets, layout: Layout, chooser, *, batch, batch_sizes, steps, once):
        self.tasks = tuple(datasets)
        self.steps = steps
        self.batch_sizes = batch_sizes
        self._datasets = datasets
        self._layout = layout
        self._chooser = chooser
        self._batch = batch
        self._once = once
        self.callback = None if chooser is None else Feedback(self.tasks, chooser)
        self.position = Position(chooser)
        self._inner = self._build(batch_sizes, datasets)
        super().__init__(tf.data.experimental.to_variant(self._inner))

    @property
    def sampler(self):
        return None if self._chooser is None else self._chooser.sampler

    @property
    def stats(self):
        return None if self._chooser is None else self._chooser.stats

    @property
    def element_spec(self):
        return self._inner.element_spec

    def _inputs(self):
        return [self._inner]

    def save_position(self, path):
        """Writes where the mixture is in its data: streams, sampler, random numbers.

        Buffers of `shuffle` are part of it, so the file can be as large as
        they are.

        Args:
            path: String. Prefix of the files.
        """
        self._check_position()
        try:
            tf.train.Checkpoint(position=self.position).write(str(path))
        except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError) as error:
            raise ValueError(
                "The data sets should be able to say where they are, which those from Python generators are not. "
                f"TensorFlow says: {error.message}"
            ) from error

    def restore_position(self, path):
        """Goes on where the mixture was when `save_position` wrote the file.

        Args:
            path: String, as it was given to `save_position`.
        """
        self._check_position()
        tf.train.Checkpoint(position=self.position).read(str(path)).assert_consumed()

    def _check_position(self):
        if self._once:
            raise ValueError("A mixture with stop='once' begins anew every time and should not need a position.")

    def prepare_for(self, model, steps_per_epoch=None):
        """What `fit` and `evaluate` of a multi-task model take for it.

        Args:
            model: A compiled `MultiTaskModel`.
            steps_per_epoch: What `fit` was given.

        Returns:
            Pair of a data set and a list of callbacks.

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
        check_model(model, self._layout, empty=self._batch == "interleave" or self._once)
        strategy = model.distribute_strategy
        data = self
        if strategy.num_replicas_in_sync > 1:
            data = strategy.distribute_datasets_from_function(self._for_replicas)
        return data, [] if self.callback is None else [self.callback]

    def _for_replicas(self, context):
        """The mixture of one input pipeline under a distribution strategy."""
        replicas, pipelines = context.num_replicas_in_sync, context.num_input_pipelines
        if pipelines > 1 and self._chooser is not None and self._chooser.live:
            raise ValueError(
                f"Several workers cannot agree on what {type(self.sampler).__name__} reads from training, so the "
                "sampler should be one that goes by steps alone. Received: a live sampler with "
                f"{pipelines} input pipelines"
            )
        sizes = {}
        for task, size in self.batch_sizes.items():
            if size is None or size % replicas:
                raise ValueError(
                    f"`batch_size` of task '{task}' should be a multiple of the number of replicas, {replicas}. "
                    f"Received: batch_size={size}"
                )
            sizes[task] = size // replicas
        datasets = self._datasets
        if pipelines > 1:
            index = context.input_pipeline_id
            datasets = {task: dataset.shard(pipelines, index) for task, dataset in datasets.items()}
        return self._build(sizes, datasets, copies=replicas // pipelines)

    def _build(self, batch_sizes, datasets, copies=1):
        """The data set itself. With `copies`, so many batches in a row have the same tasks."""
        batched = {t: as_batches(d, batch_sizes[t], repeat=not self._once) for t, d in datasets.items()}
        if self._once:
            return self._all_once(batched)
        streams = {task: iter(dataset.prefetch(tf.data.AUTOTUNE)) for task, dataset in batched.items()}
        self.position.set_streams(streams)

        def take(task):
            element = streams[task].get_next_as_optional()
            # Only an empty data set has an end here, and an end would look like the end of the epoch.
            message = f"The data set of task '{task}' should have examples. Received: an empty data set"
            tf.debugging.Assert(element.has_value(), [message])
            return element.get_value()

        if self._batch == "joint":
            steps = tf.data.Dataset.range(self.steps * copies)
            return steps.map(lambda step: self._layout.merge({task: take(task) for task in self.tasks}))
        branches = [
            tf.data.Dataset.range(np.iinfo("int64").max).map(lambda step, t=task: self._layout.merge({t: take(t)}))
            for task in self.tasks
        ]
        choices = self._choices()
        if copies > 1:
            choices = choices.flat_map(lambda task: tf.data.Dataset.from_tensors(task).repeat(copies))
        mixed = tf.data.Dataset.choose_from_datasets(branches, choices)
        mixed = mixed.apply(tf.data.experimental.assert_cardinality(self.steps * copies))
        return mixed.with_options(_as_late_as_can_be()) if self._chooser.live else mixed

    def _choices(self):
        """Data set of the tasks of one epoch, drawn as it is gone through."""
        chooser = self._chooser

        def ask(function, *arguments):
            return tf.numpy_function(function, arguments, tf.int64, stateful=True)

        if chooser.live:
            steps = tf.data.Dataset.range(self.steps)
            return steps.map(lambda step: tf.ensure_shape(ask(chooser.next, step), ()))
        epoch = tf.data.Dataset.range(1).map(lambda _: tf.ensure_shape(ask(chooser.epoch), (self.steps,)))
        return epoch.unbatch()

    def _all_once(self, batched):
        if self._batch == "interleave":
            parts = [d.map(lambda *e, t=task: self._layout.merge({t: e})) for task, d in batched.items()]
            mixed = parts[0]
            for part in parts[1:]:
                mixed = mixed.concatenate(part)
        else:
            # Data sets that are through go on with empty batches until all are.
            counted = {t: d.map(lambda *e: (e, True)) for t, d in batched.items()}
            endless = {t: d.concatenate(_nothing(d)) for t, d in counted.items()}
            mixed = tf.data.Dataset.zip(endless)
            mixed = mixed.take_while(lambda elements: tf.reduce_any([more for _, more in elements.values()]))
            mixed = mixed.map(lambda elements: self._layout.merge({t: e for t, (e, _) in elements.items()}))
        if self.steps is not None:
            mixed = mixed.apply(tf.data.experimental.assert_cardinality(self.steps))
        return mixed.prefetch(tf.data.AUTOTUNE)


def as_batches(dataset, batch_size, repeat):
    """Batches of a data set of examples; padded where examples differ in length.

    Args:
        dataset: `tf.data.Dataset`.
        batch_size: Integer, or `None` where the data set has batches already.
        repeat: Boolean. Whether it begins again and again. All batches are
            full then.

    Returns:
        `tf.data.Dataset` of batches.
    """
    dataset = dataset.repeat() if repeat else dataset
    if batch_size is None:
        return dataset
    specs = tf.nest.flatten(dataset.element_spec)
    fixed = all(isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined() for spec in specs)
    if fixed or not all(isinstance(spec, tf.TensorSpec) and spec.shape.rank is not None for spec in specs):
        return dataset.batch(batch_size, drop_remainder=repeat)
    return dataset.padded_batch(batch_size, drop_remainder=repeat)


def check_model(model, layout, empty):
    """Raises where a model and the data of a mixture do not fit.

    Args:
        model: A compiled `MultiTaskModel`.
        layout: `Layout`.
        empty: Boolean. Whether tasks may be absent from a batch.
    """
    for tasks in layout.groups():
        given = {name for task in tasks for name in layout.inputs_of[task]}
        for task in tasks:
            _check_inputs(model, layout, task, given)
    if empty and len(layout.groups()) > 1:
        _check_normalization(model)


def _check_inputs(model, layout, task, given):
    if task not in model.tasks:
        raise ValueError(f"The tasks of a mixture should be the model's, {model.tasks}. Received: '{task}'")
    if None in given:
        return
    needed = model.sharing.inputs_of(task)
    if not isinstance(needed, dict):
        return
    # What another data set of the group gives is filled with zeros; what none gives cannot be.
    missing = [name for name in needed if name not in layout.inputs_of[task]]
    if missing:
        raise ValueError(
            f"The data set of task '{task}' should have its inputs, {list(needed)}. Received: "
            f"{list(layout.inputs_of[task])}, without {missing}"
        )


def _check_normalization(model):
    from keras_mtl.layers import MaskedBatchNormalization

    del MaskedBatchNormalization, model


def _nothing(dataset):
    """Endless empty batches in the form of a data set of pairs of batch and flag."""
    batch, _ = dataset.element_spec

    def empty(spec):
        return tf.zeros([0, *(EMPTY_LENGTH if size is None else size for size in spec.shape[1:])], spec.dtype)

    return tf.data.Dataset.from_tensors((tf.nest.map_structure(empty, batch), False)).repeat()


def _as_late_as_can_be():
    """Options under which a task is drawn when the training step asks for its batch, and not before."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    return options
