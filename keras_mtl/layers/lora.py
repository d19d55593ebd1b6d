"""Changes of low rank, of which one frozen stage takes another for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Inputs, Shape, Structure, Tensor
from keras_mtl.layers.stage import Stage


@keras.saving.register_keras_serializable(package="keras_mtl")
class LoRAKernels(layers.Layer):
    """What is added to the kernels of a stage: `alpha / rank * A B` for each.

    A kernel of shape `(..., n)` has an A of shape `(..., rank)` and a B of shape `(rank, n)`, as in Keras' own
    `enable_lora`: A is drawn, B is 0 at first, so that nothing changes.

    Args:
        shapes: List of the kernels' shapes.
        rank: Integer. Rank of the changes.
        alpha: Float. What they are multiplied with, times `rank`. Defaults to `None`: `rank`.
        name: String. Name of the layer.

    Call arguments:
        inputs: Anything; it only says where in a model the layer stands.

    Returns:
        List of tensors of the kernels' shapes.

    Example:

    >>> changes = keras_mtl.layers.LoRAKernels([(3, 4)], rank=2)
    >>> [change.shape for change in changes(np.ones((1, 3)))]
    [TensorShape([3, 4])]
    >>> changes.count_params()  # 3 * 2 + 2 * 4
    14

    Reference:

    - E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv:2106.09685.
    """

    def __init__(
        self, shapes: Sequence[Shape], rank: int, alpha: float | None = None, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.shapes = [tuple(shape) for shape in shapes]
        self.rank = check_integer(rank, "rank", 1)
        self.alpha = float(self.rank) if alpha is None else check_number(alpha, "alpha", above=0)

    def build(self, input_shape: Shape | None) -> None:
        del input_shape
        self.pairs = []
        for i, (*inner, outer) in enumerate(self.shapes):
            a = self.add_weight(shape=(*inner, self.rank), initializer="he_uniform", name=f"a_{i + 1}")
            b = self.add_weight(shape=(self.rank, outer), initializer="zeros", name=f"b_{i + 1}")
            self.pairs.append((a, b))

    def call(self, inputs: Tensor) -> list[Tensor]:
        del inputs
        return [self.alpha / self.rank * ops.matmul(a, b) for a, b in self.pairs]

    def compute_output_spec(self, inputs: Inputs) -> list[keras.KerasTensor]:
        if not self.built:
            self.build(None)
        return [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in self.shapes]

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        del inputs, mask

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shapes": self.shapes, "rank": self.rank, "alpha": self.alpha}


@keras.saving.register_keras_serializable(package="keras_mtl")
class LoRAStage(Stage):
    """A stage that computes with changed kernels, which are given to it at each call.

    It so serves many tasks, each with changes of its own, and holds its weights once. Changed are the kernels of
    the layers that Keras' own LoRA takes, wherever they stand within the stage's layers.

    Call arguments:
        inputs: Dict of `inputs`, what the first layer takes, and `changes`, a list with one tensor for each of
            `kernels()`, or several such lists in a row, which are added up.

    Returns:
        What the last layer returns.
    """

    def kernels(self) -> list[keras.Variable]:
        """List of the variables that `changes` are added to."""
        return [layer.kernel if hasattr(layer, "kernel") else layer.embeddings for layer in self.lora_layers()]

    def compute_output_spec(
        self, inputs: Structure, training: bool | None = None, mask: Tensor | None = None
    ) -> Structure:
        return super().compute_output_spec(inputs["inputs"])

    def call(self, inputs: Mapping[str, Any], training: bool | None = None, mask: Tensor | None = None) -> Structure:
        kernels, changes = self.kernels(), inputs["changes"]
        changed = {}
        for i, kernel in enumerate(kernels):
            total = sum(ops.cast(change, kernel.dtype) for change in changes[i :: len(kernels)])
            changed[id(kernel)] = ops.convert_to_tensor(kernel.value, kernel.dtype) + total
        # Keras' way to compute with other values than the variables'; within, it knows of these alone.
        values = [(v, changed.get(id(v), v.value)) for v in self.variables]
        with keras.StatelessScope(state_mapping=values) as scope:
            outputs = super().call(inputs["inputs"])
        for variable, before in values:
            after = scope.get_current_value(variable)
            if after is not before and id(variable) not in changed:  # such as the state of a seed
                variable.assign(after)
        return outputs
