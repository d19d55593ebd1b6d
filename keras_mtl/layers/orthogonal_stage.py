"""A stage whose subspaces are pushed to be orthogonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Structure, Tensor
from keras_mtl.layers.stage import Stage


@keras.saving.register_keras_serializable(package="keras_mtl")
class OrthogonalStage(Stage):
    """A stage that adds `c sum_{r<s} ||G_r^T G_s||^2` to the loss.

    `G_s` are the weights that make subspace s, block s of the last axis of
    what the stage returns. They are the columns of every kernel whose last
    axis is as large as the stage's, or a multiple of it, as with the joined
    kernels of recurrent layers: then each part counts by itself.

    Args:
        stack: List of Keras layers, called one after the other.
        scope: String. The owner.
        subspaces: Integer. How many subspaces there are.
        strength: Float. c.
        name: String. Name of the stage.

    Call arguments:
        inputs: What the first layer takes.

    Returns:
        What the last layer returns.

    Raises:
        ValueError: If the stage has no kernel of that kind.
    """

    def __init__(
        self,
        stack: Sequence[keras.Layer],
        scope: str,
        subspaces: int = 2,
        strength: float = 0.1,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(stack, scope, name=name, **kwargs)
        self.subspaces = check_integer(subspaces, "subspaces", 1)
        self.strength = check_number(strength, "strength")

    def call(self, inputs: Structure, training: bool | None = None, mask: Structure | None = None) -> Tensor:
        outputs = super().call(inputs, training=training, mask=mask)
        kernels = self._kernels(outputs.shape[-1])
        self.add_loss(self.strength * sum(self._overlap(kernel, outputs.shape[-1]) for kernel in kernels))
        return outputs

    def _kernels(self, width: int) -> list[keras.Variable]:
        kernels = [v for v in self.weights if len(v.shape) > 1 and v.shape[-1] % width == 0]
        if not kernels:
            raise ValueError(
                f"Stage '{self.name}' should have a kernel whose last axis is that of its output, {width}, so that "
                f"subspaces can be orthogonal. Received: weights {[v.path for v in self.weights]}"
            )
        return kernels

    def _overlap(self, kernel: keras.Variable, width: int) -> Tensor:
        parts = ops.reshape(kernel, (-1, kernel.shape[-1] // width, self.subspaces, width // self.subspaces))
        total = 0.0
        for r in range(self.subspaces):
            for s in range(r + 1, self.subspaces):
                products = ops.einsum("ipa,ipb->pab", parts[:, :, r], parts[:, :, s])
                total = total + ops.sum(ops.square(ops.cast(products, "float32")))
        return total

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "subspaces": self.subspaces, "strength": self.strength}
