"""Task gradients of the features on TensorFlow, and what goes on from there through the trunk."""

import contextlib
import math

import keras
import tensorflow as tf

from keras_mtl.layers.stage import layers_called_by
from keras_mtl.training.tensorflow import max_pooling, sparse_gradients
from keras_mtl.training.tensorflow.task_gradients import ParameterGradients, TaskGradients, all_reduce, key

_LARGE = 1e3  # entries of a gradient in half precision: a good way from its largest, 65504


class FeatureGradients(ParameterGradients):
    """Task gradients of the shared features: one backward pass of the trunk.

    The Gramian is that of `dL_k/dz`, batch included, `z` being the tensors
    where data goes from shared layers to the tasks' own. Where one of them is
    computed with another, the gradient of the earlier one counts what flows
    through the later one too, which costs K backward passes of what lies
    between them.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model):
        super().__init__(model)
        self.upper_tape = tf.GradientTape(persistent=True)
        # The heads start from the features alone, so that a feature's gradient
        # leaves out what goes through later features: the trunk's pass adds that.
        self.trunk, self.heads = model.sharing.halves(self.tasks)
        self._nested = model.sharing.are_nested(self.trunk.outputs)

    @contextlib.contextmanager
    def recording(self, x):
        # Eager steps may have arrays, which the heads do not take beside tensors.
        x = keras.tree.map_structure(lambda t: t if tf.is_tensor(t) else tf.convert_to_tensor(t), x)
        with self.tape:
            with layers_called_by(max_pooling.call_layer):  # of the trunk alone: nothing looks behind a feature
                self.features = keras.tree.flatten(self.trunk(x, training=True))
            with self.upper_tape:
                self._entering = [_without_logits(feature) for feature in self.features]
                for feature in self._entering:
                    self.upper_tape.watch(feature)
                yield self.heads((tuple(self._entering), x), training=True)

    def collect(self, values, choose=None):
        return self._collect(self.upper_tape, values, self._entering, choose)

    def _strangers(self, task):
        return [*super()._strangers(task), *self.shared]

    def gramian(self):
        gradients = self.gradients
        if self._nested:
            rows = [self._through_trunk(self.features, one) for one in tf.unstack(tf.eye(len(self.tasks)))]
            gradients = TaskGradients(rows, self.features)
        # Replicas hold different examples of the features: their products add up.
        (gramian,) = all_reduce([gradients.gramian()])
        return gramian

    def shared_gradients(self, weights):
        # Weights may be larger than what half precision can hold: they meet the gradients behind the trunk.
        unit = self._unit(tf.reduce_max(tf.abs(weights)))
        found = self._through_trunk(self.shared, weights if unit is None else weights / unit)
        return self._in_units(found, unit)

    def _unit(self, size):
        """What to divide gradients of the features by, `None` where these are not of half precision."""
        half = any(feature.dtype in (tf.float16, tf.bfloat16) for feature in self.features)
        return tf.where(size > 0, size, tf.ones_like(size)) if half else None

    def _in_units(self, found, unit):
        if unit is not None:
            found = [None if g is None else sparse_gradients.scale(g, unit) for g in found]
        return dict(zip(map(key, self.shared), found, strict=True))

    def by_example(self):
        """The task gradients of all features of each example.

        Returns:
            float32 tensor of shape `(K, B, D)`.
        """
        size = tf.shape(self.features[0])[0]
        parts = [
            tf.reshape(tf.cast(rows.matrix(), tf.float32), [len(self.tasks), size, math.prod(feature.shape[1:])])
            for rows, feature in zip(self.gradients.of_targets, self.features, strict=True)
        ]
        return tf.concat(parts, axis=2)

    def gradients_from(self, gradient):
        """Gradients of the shared variables from one of the features, of shape `(B, D)`."""
        unit = self._unit(tf.maximum(tf.reduce_max(tf.abs(gradient)) / _LARGE, 1.0))
        gradient = gradient if unit is None else gradient / unit
        parts = tf.split(gradient, [math.prod(feature.shape[1:]) for feature in self.features], axis=1)
        parts = [tf.reshape(tf.cast(p, f.dtype), tf.shape(f)) for p, f in zip(parts, self.features, strict=True)]
        found = self.tape.gradient(self.features, self.shared, output_gradients=parts)
        return self._in_units(found, unit)

    def _through_trunk(self, variables, weights):
        combined = self.gradients.combine(weights)
        return self.tape.gradient(self.features, variables, output_gradients=combined)


def _without_logits(feature):
    """A feature behind which a loss does not go, to the logits that Keras keeps beside a sigmoid."""
    return tf.identity(feature) if hasattr(feature, "_keras_logits") else feature


class LastSharedGradients(FeatureGradients):
    """Task gradients of the last shared layers' variables.

    Only the weights come from these; the gradients of the whole trunk follow
    in one backward pass.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def gramian(self):
        layers = self.model.sharing.last_shared_layers(self.tasks)
        last = [variable for layer in layers for variable in layer.trainable_variables]
        alone = tf.unstack(tf.eye(len(self.tasks)))
        return TaskGradients([self._through_trunk(last, one) for one in alone], last).reduced().gramian()


PLACES = {
    "parameters": ParameterGradients,
    "last_shared": LastSharedGradients,
    "features": FeatureGradients,
}
