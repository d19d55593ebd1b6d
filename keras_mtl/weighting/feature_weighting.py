"""The base of weightings that change the task gradients of the shared features."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_mtl._types import Place, Tasks, Tensor
from keras_mtl.weighting.base import Update, Weighting

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.forward import Forward
    from keras_mtl.training.places import Features


class FeatureWeighting(Weighting):
    """Base of the methods that change the task gradients of the shared features.

    Built with `(K, D)`: K tasks, D features of an example. The trunk gets the sum of the changed gradients.
    """

    requires = "features"
    sees_gradients = True

    def shape_for(self, model: MultiTaskModel, tasks: Tasks) -> tuple[int, int]:
        shapes = [tuple(feature.shape[1:]) for feature in model.sharing.features(tasks)]
        if any(size is None for shape in shapes for size in shape):
            raise ValueError(
                f"Weighting {type(self).__name__} needs shared features of known shapes. Received: {shapes}"
            )
        return len(tasks), sum(int(np.prod(shape)) for shape in shapes)

    def place(self, places: ModuleType, model: MultiTaskModel) -> Features:
        return places.Features(model)

    def rule(self, gradients: Place, step: Forward) -> Update:
        """The update rule: the trunk gets the sum of the changed gradients of the features."""

        def objective() -> tuple[Tensor, Tensor]:
            changed, value = self.align(gradients.by_example(), step.present, gradients.all_reduce)
            return value, changed

        _, learned, changed = step.differentiate(objective, self.trainable_variables, in_parts=True)
        of_trunk = gradients.from_features(ops.einsum("kbd,k->bd", changed, step.present))
        weights = self.task_weights(step.losses, step.present)
        return Update({**gradients.heads(), **of_trunk, **learned}, weights, gradients.gramian()[0])

    def align(
        self, gradients: Tensor, present: Tensor, add_up: Callable[..., Any] = lambda tensors: tensors
    ) -> tuple[Tensor, Tensor]:
        """Changes the tasks' gradients and updates the state.

        Args:
            gradients: float32 tensor of shape `(K, B, D)`: dL_k/dh for B
                examples. 0 for absent tasks.
            present: Float tensor of shape `(K,)`.
            add_up: Function that sums each of a list of tensors over the
                replicas, which hold different examples. It has no gradient.
                Defaults to one replica.

        Returns:
            Tuple `(changed, objective)`: a tensor of the shape of `gradients`,
            and a scalar whose sum over the replicas the weighting's own
            variables minimize.
        """
        raise NotImplementedError
