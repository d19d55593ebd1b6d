"""Task gradients of each shared layer on one batch."""

from keras import ops

from keras_mtl.training.backends import core
from keras_mtl.training.task_gradients import TaskGradients
from keras_mtl.weighting._float64 import float64


class GradientProbe:
    """Gramians of the task gradients, one for each shared layer.

    The model runs in inference mode and nothing in it changes.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model):
        tasks = model.compiled_tasks.tasks
        self._model = model
        self._layers = [
            layer
            for layer in model.sharing.layers
            if layer.trainable_variables and len(set(tasks) & set(model.sharing.tasks_of(layer))) > 1
        ]
        if not self._layers:
            raise ValueError(f"Model '{model.name}' should have trainable layers that two tasks share. Received: none")
        self.layers = [layer.name for layer in self._layers]
        self._run = core.traced(self._gramians, model)

    def __call__(self, x, y, sample_weight=None):
        """Gramians on one batch.

        Args:
            x: Inputs, as the model takes them.
            y: Dict from task to labels.
            sample_weight: As in `fit`.

        Returns:
            Array of shape `(number of shared layers, K, K)`.
        """
        core.synchronize(self._model)
        return self._run(x, y, sample_weight)

    def _gramians(self, x, y, sample_weight):
        variables = [layer.trainable_variables for layer in self._layers]
        flat = [variable for of_layer in variables for variable in of_layer]

        def losses():
            batch = self._model.compiled_tasks.task_losses(y, self._model(x, training=False), sample_weight)
            return [ops.divide_no_nan(s, batch.divisors[k]) for k, s in enumerate(batch.sums)], None

        pullback = core.Pullback(losses, flat)
        rows = [pullback.of(k)[0] for k in range(len(pullback.outputs))]
        gramians, start = [], 0
        for of_layer in variables:
            end = start + len(of_layer)
            gramians.append(TaskGradients([row[start:end] for row in rows], of_layer).gramian())
            start = end
        with float64():
            return ops.stack(gramians)
