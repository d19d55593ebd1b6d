"""Relevance of documents to a query: scaled cosines of their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._checks import check_boolean
from keras_mtl._types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class CosineScores(layers.Layer):
    """Scores documents by the cosine between their vectors and a query's.

    `R(q, d) = gamma q . d / (||q|| ||d||)`. With a softmax over a query's
    documents this is the probability of a click; leave the softmax to the loss,
    `CategoricalCrossentropy(from_logits=True)` or its sparse form.

    Args:
        gamma: Float. Defaults to 10.
        in_batch: Boolean. Whether each query is scored against the documents
            of all queries of the batch, of which the others' are negatives.
            The label of the i-th query is i then. Defaults to `False`.
        epsilon: Float. Lengths below it count as it. Defaults to 1e-6.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of the queries' vectors, of shape `(batch, features)`, and
            the documents', of shape `(batch, documents, features)` or, with
            `in_batch`, `(batch, features)`.

    Returns:
        Tensor of shape `(batch, documents)`, `(batch, batch)` with `in_batch`.

    Example:

    >>> scores = keras_mtl.retrieval.CosineScores(gamma=10)
    >>> query, documents = np.array([[3.0, 4.0]]), np.array([[[6.0, 8.0], [4.0, -3.0]]])
    >>> keras.ops.convert_to_numpy(scores([query, documents])).round(3).tolist()
    [[10.0, 0.0]]

    Reference:

    - P.-S. Huang et al., "Learning Deep Structured Semantic Models for Web Search using Clickthrough Data", CIKM 2013.
    """

    def __init__(
        self, gamma: float = 10.0, in_batch: bool = False, epsilon: float = 1e-6, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.gamma = gamma
        self.in_batch = check_boolean(in_batch, "in_batch")
        self.epsilon = epsilon

    def build(self, input_shape: Sequence[Shape]) -> None:
        query, documents = input_shape
        if len(documents) != (2 if self.in_batch else 3) or len(query) != 2 or query[-1] != documents[-1]:
            raise ValueError(
                f"Layer '{self.name}' should get queries of shape (batch, features) and documents of shape "
                f"{'(batch, features)' if self.in_batch else '(batch, documents, features)'}. Received: "
                f"{tuple(query)} and {tuple(documents)}"
            )

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        query, documents = (self._normalized(x) for x in inputs)
        if self.in_batch:
            return self.gamma * ops.matmul(query, ops.transpose(documents))
        return self.gamma * ops.squeeze(ops.matmul(documents, query[..., None]), axis=-1)

    def _normalized(self, x: Tensor) -> Tensor:
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(ops.maximum(squares, self.epsilon**2))

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        query, documents = input_shape
        return (query[0], documents[0] if self.in_batch else documents[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma, "in_batch": self.in_batch, "epsilon": self.epsilon}
