"""The base class of modules."""

from __future__ import annotations

from keras import layers, ops

from keras_mtl._types import Tensor


class NeuralModule(layers.Layer):
    """A module of a neural module network, with a type.

    A module of one's own is a subclass, registered with Keras, that says what
    it takes and gives.

    Attributes:
        takes: Tuple of the types of its arguments, such as `"attention"`. A
            module without arguments is a leaf of a layout.
        gives: The type of what it returns: `"answer"` at the root of a layout.
        takes_word: Whether a word goes with it, as in `find[red]`.

    Call arguments:
        inputs: List of the features; the word, one-hot, of shape
            `(batch, words)`, if the module takes one; and its arguments.
    """

    takes: tuple[str, ...] = ()
    gives = "attention"
    takes_word = False


def row_of(table: Tensor, word: Tensor) -> Tensor:
    """Each example's own weights: the row of its word in a table of shape `(words, ...)`."""
    rows = ops.matmul(word, ops.reshape(table, (table.shape[0], -1)))
    return ops.reshape(rows, (-1, *table.shape[1:]))
