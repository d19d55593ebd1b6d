"""The base of weightings that combine the task gradients themselves."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._types import Place, Tasks, Tensor
from keras_mtl.weighting.base import Update, Weighting

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.forward import Forward
    from keras_mtl.training.places import Parts


class JacobianWeighting(Weighting):
    """Base of the methods that need the task gradients themselves.

    Built with `(K, P)`: K tasks, P shared parameters. Instead of weights they
    give the update direction itself. It is that of the shared parameters alone:
    heads get their own task's plain gradient, of the whole batch.

    `sub_batches` is the number of independent parts that the batch is split into.
    """

    requires = "jacobian"
    sees_gradients = True
    sub_batches = 1

    def shape_for(self, model: MultiTaskModel, tasks: Tasks) -> tuple[int, int]:
        return len(tasks), sum(int(np.prod(v.shape)) for v in model.sharing.shared_variables(tasks))

    def check_options(self, gradients: str, gramian_fraction: float) -> None:
        super().check_options(gradients, gramian_fraction)
        if gradients != "parameters":
            raise ValueError(
                f"`gradients` should be 'parameters' with {type(self).__name__}, which combines the gradients of the "
                f"parameters themselves. Received: gradients={gradients!r}"
            )

    def place(self, places: ModuleType, model: MultiTaskModel) -> Parts:
        return places.Parameters(model) if self.sub_batches == 1 else places.Parts(model, self.sub_batches)

    def rule(self, gradients: Place, step: Forward) -> Update:
        """The update rule: shared variables get the direction, heads their own task's gradient."""
        direction, weights = self.direction(gradients.jacobian(), gradients.losses, step.present)
        gramian, _ = gradients.gramian()
        return Update({**gradients.heads(), **gradients.split(direction)}, weights, gramian)

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Combines the task gradients into one direction and updates the state.

        Args:
            jacobian: Float tensor of shape `(K, P)`; with
                `sub_batches = S > 1`, of shape `(S, K, P)`. Rows of absent
                tasks are 0.
            losses: Float tensor of shape `(K,)`; `(S, K)` with sub-batches.
            present: Float tensor of shape `(K,)`.

        Returns:
            Tuple `(direction, weights)`: the direction, of shape `(P,)`, that
            takes the gradient's place, and the task weights to be logged, of
            shape `(K,)`.
        """
        raise NotImplementedError
