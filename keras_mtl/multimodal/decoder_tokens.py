"""The input of a decoder: a control vector and the tokens so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Inputs, Shape, Tensor
from keras_mtl.multimodal.temporal_encoder import sinusoids


@keras.saving.register_keras_serializable(package="keras_mtl")
class DecoderTokens(layers.Layer):
    """Puts a task's control vector before its tokens, and sinusoids on both.

    `[W_c c; e_1; ...; e_{n-1}]`: the control vector stands where the first
    token is to be told, and each token where the next one is.

    Args:
        features: Integer. Width of what comes out.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of a control vector of shape `(batch, c)` and, if the task
            has tokens, their embeddings, of shape `(batch, n, features)`.

    Returns:
        Tensor of shape `(batch, n, features)`; n is 1 without tokens.

    Example:

    >>> keras_mtl.multimodal.DecoderTokens(8)([np.ones((2, 4)), np.ones((2, 6, 8))]).shape
    TensorShape([2, 6, 8])

    Reference:

    - S. Pramanik et al., "OmniNet: A unified architecture for multi-modal multi-task learning", 2019.

    Deviations: the official code projects tokens after embedding them; here
    embeddings have the width of the model.
    """

    def __init__(self, features: int, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.features = features

    def build(self, input_shape: Sequence[Shape]) -> None:
        self.projection = layers.Dense(self.features, dtype=self.dtype_policy, name="projection")
        self.projection.build(input_shape[0])

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        control, *tokens = inputs
        found = self.projection(control)[:, None, :]
        if tokens:
            found = ops.concatenate([found, tokens[0][:, :-1]], axis=1)
        return found + sinusoids(found)

    def compute_output_spec(self, inputs: Inputs) -> keras.KerasTensor:
        control, *tokens = inputs
        length = tokens[0].shape[1] if tokens else 1
        return keras.KerasTensor((control.shape[0], length, self.features), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "features": self.features}
