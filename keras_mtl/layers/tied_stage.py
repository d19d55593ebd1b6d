"""A stage of a column whose weights are held near those of other columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.layers._distances import NORMALIZATIONS, l2_distance, tensor_trace_norm
from keras_mtl.layers.stage import Stage


@keras.saving.register_keras_serializable(package="keras_mtl")
class TiedStage(Stage):
    """A task's own copy of a stage, tied to the copies of other tasks.

    It computes what a `Stage` computes, and no data passes between the
    columns: each column's weights stay its task's own. The tie is a term of
    the loss of the model that holds the stages, which asks for it by
    `joint_loss`. The stages know each other by name, so that saving, cloning
    and taking a single-task model out keep working.

    Args:
        stack: List of Keras layers, called one after the other.
        scope: String. The task.
        partners: List of names of the tied stages, this one among them.
        distance: `"l2"`, `"trace_norm"` or a function from a tensor of shape
            `(..., K)`, one weight of the K columns, to a scalar.
        strength: Float. What the distance is multiplied with.
        normalization: `"laf"`, `"tucker"` or `"tt"`. How the trace norm sees
            tensors.
        name: String. Name of the stage.

    Call arguments:
        inputs: What the first layer takes.

    Returns:
        What the last layer returns.
    """

    def __init__(
        self,
        stack: Sequence[keras.Layer],
        scope: str,
        partners: Sequence[str],
        distance: str | Callable[[Tensor], Tensor] = "l2",
        strength: float = 0.01,
        normalization: Literal["laf", "tucker", "tt"] = "laf",
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(stack, scope, name=name, **kwargs)
        if distance not in ("l2", "trace_norm") and not callable(distance):
            raise ValueError(
                f"`distance` should be 'l2', 'trace_norm' or a function of the stacked weights. "
                f"Received: distance={distance!r}"
            )
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"`normalization` should be one of {NORMALIZATIONS}. Received: normalization={normalization!r}"
            )
        self.partners = list(partners)
        self.distance = distance
        self.strength = check_number(strength, "strength")
        self.normalization = normalization

    def joint_loss(self, stages: Mapping[str, keras.Layer]) -> Tensor | None:
        """The distance between this stage and its partners, times `strength`.

        Args:
            stages: Dict from name to layer of the model that holds them.

        Returns:
            Scalar, or `None` where another stage adds the term.
        """
        columns = self._present(stages)
        if len(columns) < 2 or columns[0] is not self:
            return None
        weights = [group for group in self._groups(columns) if any(v.trainable for v in group)]
        if not weights:
            return None
        weights = [[ops.cast(v, "float32") for v in group] for group in weights]
        return self.strength * sum(map(self._measure, weights))

    def joint_coefficients(self, stages: Mapping[str, keras.Layer]) -> np.ndarray | None:
        """How far the columns are apart, relative to their size.

        Args:
            stages: Dict from name to layer of the model that holds them.

        Returns:
            Array of shape `(K, K)` of `||W_i - W_j|| / sqrt(||W_i|| ||W_j||)`
            over all weights of the stages, or `None` where another stage
            gives it.
        """
        columns = self._present(stages)
        if len(columns) < 2 or columns[0] is not self:
            return None
        flat = [ops.concatenate([ops.reshape(v, (-1,)) for v in c.trainable_variables]) for c in columns]
        flat = ops.stack([ops.cast(column, "float32") for column in flat])
        sizes = ops.norm(flat, axis=-1)
        apart = ops.norm(flat[:, None] - flat[None, :], axis=-1)
        return ops.convert_to_numpy(ops.divide_no_nan(apart, ops.sqrt(sizes[:, None] * sizes[None, :])))

    def _present(self, stages: Mapping[str, keras.Layer]) -> list[keras.Layer]:
        return [stages[name] for name in self.partners if name in stages]

    @staticmethod
    def _groups(columns: Sequence[keras.Layer]) -> list[tuple[keras.Variable, ...]]:
        trained = [[v for v in column.weights if "float" in v.dtype] for column in columns]
        return list(zip(*trained, strict=True))

    def _measure(self, weights: Tensor) -> Tensor:
        if self.distance == "l2":
            return l2_distance(weights)
        stacked = ops.stack(weights, axis=-1)
        if self.distance == "trace_norm":
            return tensor_trace_norm(stacked, self.normalization)
        return self.distance(stacked)  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        distance = (
            self.distance if isinstance(self.distance, str) else keras.saving.serialize_keras_object(self.distance)
        )
        return {
            **super().get_config(),
            "partners": self.partners,
            "distance": distance,
            "strength": self.strength,
            "normalization": self.normalization,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        if not isinstance(config["distance"], str):
            config["distance"] = keras.saving.deserialize_keras_object(config["distance"])
        return super().from_config(config)
