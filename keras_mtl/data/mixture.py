"""A data set made of the data sets of several tasks."""

import functools

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.data.feedback import Feedback
from keras_mtl.data.layout import EMPTY_LENGTH, Layout
from keras_mtl.data.position import Position
from keras_mtl.layers import SafeBatchNormalization


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
        self._inner = self._all_once() if once else self._window(self._stream(datasets, batch_sizes))
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
        strategy, data = model.distribute_strategy, self
        if strategy.num_replicas_in_sync > 1:
            data = strategy.distribute_datasets_from_function(self._for_replicas)
        elif not self._once and self.steps % model.steps_per_execution == 0:
            data = _Endless(self._inner, self.position.stream)
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
        copies = replicas // pipelines
        return self._window(self._stream(datasets, sizes, copies), copies)

    def _stream(self, datasets, batch_sizes, copies=1):
        """The endless stream of batches, from which epochs are taken.

        With `copies`, so many batches in a row are of the same tasks.
        """
        batched = {
            task: or_error(as_batches(dataset.repeat(), batch_sizes[task]), task).prefetch(tf.data.AUTOTUNE)
            for task, dataset in datasets.items()
        }
        if self._batch == "joint":
            stream = self._merged(batched, batch_sizes)
        else:
            branches = [self._merged({task: dataset}, batch_sizes) for task, dataset in batched.items()]
            choices = self._choices()
            if copies > 1:
                choices = choices.flat_map(lambda task: tf.data.Dataset.from_tensors(task).repeat(copies))
            stream = tf.data.Dataset.choose_from_datasets(branches, choices)
        return stream.with_options(_options())

    def _merged(self, batched, batch_sizes):
        """Batches of some tasks' data sets in one."""
        fillers = self._layout.fillers({task: batch_sizes[task] for task in batched})
        places = list(fillers)
        if not places:
            return tf.data.Dataset.zip(batched).map(lambda batches: self._layout.merge(batches, {}))
        # They come as a data set of their own, so that putting them in their places is no operation in the graph.
        constants = tf.data.Dataset.from_tensors(tuple(fillers.values())).repeat()
        both = tf.data.Dataset.zip((batched, constants))
        return both.map(lambda batches, values: self._layout.merge(batches, dict(zip(places, values, strict=True))))

    def _window(self, stream, copies=1):
        """One epoch of a stream, which goes on where the last one ended."""
        iterator = self.position.stream = iter(stream)
        window = tf.data.Dataset.range(self.steps * copies).map(lambda step: iterator.get_next())
        return window.with_options(_options())

    def _choices(self):
        """Endless data set of tasks, drawn as it is gone through."""
        chooser = self._chooser

        def ask(function):
            return tf.numpy_function(function, [], tf.int64, stateful=True)

        turns = tf.data.Dataset.range(np.iinfo("int64").max)
        if chooser.live:
            return turns.map(lambda turn: tf.ensure_shape(ask(chooser.next), ()))
        return turns.map(lambda turn: tf.ensure_shape(ask(chooser.epoch), (self.steps,))).unbatch()

    def _all_once(self):
        batched = {task: as_batches(dataset, self.batch_sizes[task]) for task, dataset in self._datasets.items()}
        varying = dict.fromkeys(self.tasks)
        if self._batch == "interleave":
            parts = [self._merged({task: dataset}, varying) for task, dataset in batched.items()]
            mixed = functools.reduce(lambda before, part: before.concatenate(part), parts)
        else:
            # Data sets that are through go on with empty batches until all are.
            flagged = {task: dataset.map(lambda *batch: (batch, True)) for task, dataset in batched.items()}
            longer = {task: dataset.concatenate(_nothing(dataset)) for task, dataset in flagged.items()}
            mixed = tf.data.Dataset.zip(longer)
            mixed = mixed.take_while(lambda pairs: tf.reduce_any([more for _, more in pairs.values()]))
            mixed = mixed.map(lambda pairs: self._layout.merge({task: pair[0] for task, pair in pairs.items()}, {}))
        if self.steps is not None:
            mixed = mixed.apply(tf.data.experimental.assert_cardinality(self.steps))
        return mixed.prefetch(tf.data.AUTOTUNE)


class _Endless(tf.data.Dataset):
    """A mixture for a `fit` that counts the steps of an epoch itself.

    Every epoch goes on with the one iterator of the stream. To call that from
    a data set of one epoch, as a mixture does elsewhere, would cost about as
    much as a small batch.
    """

    def __init__(self, window, iterator):
        self._window = window
        self._iterator = iterator
        super().__init__(tf.data.experimental.to_variant(window))

    def __iter__(self):
        return self._iterator

    @property
    def element_spec(self):
        return self._window.element_spec

    def _inputs(self):
        return [self._window]


def as_batches(dataset, batch_size):
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
    open_length = any(isinstance(spec, tf.TensorSpec) and None in (spec.shape.dims or ()) for spec in specs)
    return dataset.padded_batch(batch_size) if open_length else dataset.batch(batch_size)


def or_error(dataset, task):
    """An endless data set, or an error where it has an end, which is that it is empty.

    Without it, the end of one task's data would look like the end of an epoch.
    """

    def fail(step):
        message = f"The data set of task '{task}' should have examples. Received: an empty data set"
        with tf.control_dependencies([tf.debugging.Assert(step < 0, [message])]):
            return tf.nest.map_structure(lambda spec: _empty(spec), dataset.element_spec)

    return dataset.concatenate(tf.data.Dataset.range(1).map(fail))


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
    for layer in model._flatten_layers():
        plain = isinstance(layer, keras.layers.BatchNormalization) and not isinstance(layer, SafeBatchNormalization)
        if plain and layer.trainable:
            raise ValueError(
                f"Layer '{layer.name}' would normalize empty batches, since tasks with inputs of their own take turns, "
                "and its statistics would become NaN. It should be a `keras_mtl.layers.SafeBatchNormalization`, or "
                "have trainable=False"
            )


def _nothing(dataset):
    """Endless empty batches in the form of a data set of pairs of batch and flag."""
    batch, _ = dataset.element_spec
    return tf.data.Dataset.from_tensors((tf.nest.map_structure(_empty, batch), False)).repeat()


def _empty(spec):
    return tf.zeros([0, *(EMPTY_LENGTH if size is None else size for size in spec.shape[1:])], spec.dtype)


def _options():
    """Options under which nothing is drawn before the training step asks for it, and positions can be saved."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return options
