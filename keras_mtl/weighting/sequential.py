"""Composition of weightings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

import keras
from keras import ops

from keras_mtl._types import Place, Shape, Tensor
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.registry import deserialize, get, serialize

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.forward import Forward
    from keras_mtl.training.places import Together
    from keras_mtl.weighting.base import Update


@keras.saving.register_keras_serializable(package="keras_mtl")
class Sequential(Weighting):
    """Composes weightings: each sees the losses as the ones before weighed them.

    Stage `i` gets the losses `L * w_1 * ... * w_(i-1)`, and, where it is a
    Gramian method, `G` with rows and columns multiplied alike; the weights of
    the composition are the product of the stages' weights. So
    `Sequential(["uncertainty", "pcgrad"])` learns the tasks' scales, and
    resolves the conflicts of the gradients so scaled.

    Stages with learned variables train these by their own objective, on the
    losses that they see.

    Scale: the product of the stages' scales.

    Args:
        weightings: List of weightings, names or configs. All but the last should
            be weightings on losses; the last may be one on the Gramian.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `weightings` is empty or out of order.

    Example:

    >>> weighting = keras_mtl.weighting.Sequential(["scale_invariant", "mgda"])
    >>> weighting.requires
    'gramian'
    >>> losses = np.array([0.5, 2.0], "float32")
    >>> weighting(losses, gramian=np.diag([1.0, 16.0])).numpy().round(3).tolist()
    [1.0, 0.25]
    """

    def __init__(self, weightings: Sequence[str | Weighting | Mapping[str, Any]], name: str | None = None) -> None:
        super().__init__(name=name)
        if not isinstance(weightings, (list, tuple)) or not weightings:
            raise ValueError(
                f"`weightings` should be a list of at least one weighting. Received: weightings={weightings!r}"
            )
        self.weightings = [get(stage) for stage in weightings]
        for stage in self.weightings[:-1]:
            if stage.sees_gradients:
                raise ValueError(
                    "`weightings` should be weightings on losses, but for the last. "
                    f"Received: {stage} before the last of weightings={weightings!r}"
                )
        last = self.weightings[-1]
        if last.sees_gradients and not isinstance(last, (GramianWeighting, Sequential)):
            what = "the Jacobian" if isinstance(last, JacobianWeighting) else "the gradients of features"
            raise ValueError(
                "`weightings` should end with a weighting on losses or on the Gramian. "
                f"Received: {last}, which requires {what}"
            )
        self.requires, self.sees_gradients = last.requires, last.sees_gradients
        self.weights_may_vanish = any(stage.weights_may_vanish for stage in self.weightings)
        self.second_forward = any(stage.second_forward for stage in self.weightings)
        if self.second_forward and self.sees_gradients:
            raise ValueError(
                "`weightings` that end with a weighting on the Gramian should not ask for a second forward pass; "
                f'FAMO does without with form="next_batch". Received: weightings={weightings!r}'
            )

    # It is of the last stage's kind: what differs from kind to kind is the last stage's, with these weights.

    @property
    def every(self) -> int:
        """Number of steps for which the weights on task gradients hold."""
        return getattr(self.weightings[-1], "every", 1)

    @property
    def step_count(self) -> keras.Variable:
        """Place in the turn, where `every` is above 1."""
        return self.weightings[-1].step_count

    def check_options(self, gradients: str, gramian_fraction: float) -> None:
        self.weightings[-1].check_options(gradients, gramian_fraction)

    def needs_features(self, gradients: str, gramian_fraction: float) -> list[tuple[str, Any, Any]]:
        return self.weightings[-1].needs_features(gradients, gramian_fraction)

    def place(self, places: ModuleType, model: MultiTaskModel) -> Together:
        return self.weightings[-1].place(places, model)

    def rule(self, gradients: Place, step: Forward) -> Update:
        return self.kind.rule(self, gradients, step)

    def solves_now(self) -> Tensor | None:
        return self.weightings[-1].solves_now()

    def in_turns(self, solve: Callable[..., Any], step: Forward) -> tuple[Tensor, Tensor]:
        return self.weightings[-1].in_turns(solve, step)

    def follow(
        self,
        step: Forward,
        update: Update,
        if_optimizer_steps: Callable[[Callable[[], None]], None],
        losses_again: Callable[[], Tensor],
    ) -> None:
        self.kind.follow(self, step, update, if_optimizer_steps, losses_again)

    @property
    def kind(self) -> type[Weighting]:
        """The class whose rule the composition follows: that of the last weighting that is no composition."""
        last = self.weightings[-1]
        return last.kind if isinstance(last, Sequential) else type(last)

    def set_tasks(self, tasks: Sequence[str], kinds: Sequence[str]) -> None:
        for stage in self.weightings:
            stage.set_tasks(tasks, kinds)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        for stage in self.weightings:
            if not stage.built:
                stage.build(input_shape)
        # What `task_weights` gave last, for `objective` and `update`: asking a stage
        # again might draw again.
        self.latest = self.add_state("latest", (len(self.weightings), self.num_tasks))

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        latest = []
        product = ops.ones_like(present)
        for stage in self.weightings:
            weights = ops.stop_gradient(stage.task_weights(losses * product, present, _scale(gramian, product)))
            latest.append(weights)
            product = product * weights
        self.latest.assign(ops.stack(latest))
        return product

    def objective(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        losses_now = ops.stop_gradient(losses)
        learned = 0.0
        for stage, seen, _ in self._stages_seen():
            if stage.trainable_variables:
                stage_weights = stage.task_weights(losses_now * seen, present)
                learned = learned + stage.objective(losses_now * seen, stage_weights, present)
        # Minus its own value: the value stays that of the weighted losses.
        return super().objective(losses, weights, present) + learned - ops.stop_gradient(learned)

    def update(self, losses: Tensor, present: Tensor, weights: Tensor, gramian: Tensor | None = None) -> None:
        del weights
        for stage, seen, stage_weights in self._stages_seen():
            stage.update(losses * seen, present, stage_weights, _scale(gramian, seen))

    def after_step(self, losses: Tensor, losses_after: Tensor, present: Tensor) -> None:
        for stage, seen, _ in self._stages_seen():
            if stage.second_forward:
                stage.after_step(losses * seen, losses_after * seen, present)

    def state_of_steps(self) -> list[keras.Variable]:
        return [variable for stage in self.weightings for variable in stage.state_of_steps()]

    def end_epoch(self, logs: Mapping[str, Any] | None = None) -> None:
        for stage in self.weightings:
            stage.end_epoch(logs)

    def reset_state(self) -> None:
        super().reset_state()
        for stage in self.weightings:
            stage.reset_state()

    def _stages_seen(self) -> Iterator[tuple[Weighting, Tensor, Tensor]]:
        # Each stage, the product of the weights before it, and its weights.
        latest = ops.convert_to_tensor(self.latest)
        seen = ops.ones((self.num_tasks,), "float32")
        for index, stage in enumerate(self.weightings):
            yield stage, seen, latest[index]
            seen = seen * latest[index]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weightings": [serialize(stage) for stage in self.weightings]}

    def __repr__(self) -> str:
        return f"Sequential({self.weightings})"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**{**config, "weightings": [deserialize(stage) for stage in config["weightings"]]})


def _scale(gramian: Tensor, product: Tensor) -> Tensor | None:
    if gramian is None:
        return None
    product = ops.cast(product, gramian.dtype)
    return gramian * product[:, None] * product[None, :]
