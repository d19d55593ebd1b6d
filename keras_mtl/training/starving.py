"""A word on tasks that a weighting hardly trains."""

import warnings

import numpy as np
from keras import ops

SHARE = 0.01


class EpochWeights:
    """The tasks' mean weights of an epoch, and what they multiply.

    A small weight may be right: many weightings make up for large losses or
    gradients with it. It is not where the product of the two is small as well.

    Args:
        compiled: `Compiled` of the model.
        counts: Array of shape `(K,)`. The tasks' labelled examples.
    """

    def __init__(self, compiled, counts):
        static = ops.convert_to_numpy(compiled.static_weights.value)
        self._live = (counts > 0) & (static > 0)
        weights = ops.convert_to_numpy(compiled.weight_tracker.means())
        self._weights = np.abs(np.divide(weights, static, out=np.zeros_like(weights), where=self._live))
        sizes = compiled.norm_tracker.means() if compiled.takes_task_gradients else compiled.loss_tracker.means()
        self._sizes = np.abs(ops.convert_to_numpy(sizes)) * (1.0 if compiled.takes_task_gradients else static)

    def starved(self):
        """Whether a task had less than 1 % of all weight, and less than half of an equal part of what is trained.

        Returns:
            Boolean array of shape `(K,)`.
        """
        parts = self._weights * self._sizes
        total, whole = self._weights.sum(), parts.sum()
        if not (np.isfinite(total) and np.isfinite(whole)) or total == 0:
            return np.zeros(self._live.shape, "bool")
        small_part = parts < whole / (2 * self._live.sum()) if whole > 0 else True
        return self._live & (self._weights < SHARE * total) & small_part

    def warn(self, model, epoch):
        """Warns of such tasks, by name.

        Args:
            model: A compiled `MultiTaskModel`.
            epoch: Integer. Counted from 0.

        Returns:
            Boolean. Whether there was one.
        """
        compiled = model.compiled_tasks
        tasks = [task for task, starved in zip(compiled.tasks, self.starved(), strict=True) if starved]
        if tasks:
            warnings.warn(
                f"The mean weight of {tasks} stayed below 1 % of all tasks' in epoch {epoch + 1}: "
                f"{'shared layers' if compiled.takes_task_gradients else 'the model'} hardly learned from them. "
                f"{_remedy(compiled)}",
                stacklevel=3,
            )
        return bool(tasks)


def _remedy(compiled):
    name, config = type(compiled.weighting).__name__, compiled.weighting.get_config()
    if not compiled.takes_task_gradients:
        return f"`loss_weights` that bring losses to one size, or other options of {name}, give each task its part."
    if config.get("normalize", "") is None:
        return (
            f"Gradients of different sizes do that: `{name}(normalize='norm')` sees them at one length. So do "
            "`loss_weights` that bring them there."
        )
    return f"`loss_weights` that bring gradients to one size, or other options of {name}, give each task its part."
