"""Curricula over examples: easy ones first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl._checks import check_boolean, is_integer
from keras_mtl._types import Structure, Tensor


def competence(step: float | Tensor, steps: int, initial: float = 0.01) -> float:
    """How much of the examples a model is up to, by the square-root rule.

    `c(t) = min(1, sqrt(t (1 - c_0^2) / T + c_0^2))`.

    Args:
        step: Number or tensor t.
        steps: Number T of steps until all examples are in.
        initial: Float. `c_0`, the part to begin with. Defaults to `0.01`.

    Returns:
        Number, or tensor, in (0, 1].

    Example:

    >>> [round(float(keras_mtl.data.competence(t, steps=100, initial=0.1)), 3) for t in (0, 25, 100, 200)]
    [0.1, 0.507, 1.0, 1.0]

    Reference:

    - Platanios, Stretcu, Neubig, Poczos and Mitchell, "Competence-based
      Curriculum Learning for Neural Machine Translation", NAACL 2019.
    """
    square = step * (1.0 - initial**2) / steps + initial**2
    return tf.sqrt(tf.minimum(square, 1.0)) if tf.is_tensor(square) else np.sqrt(np.minimum(square, 1.0))


def pace(
    dataset: tf.data.Dataset,
    difficulty: Callable[..., Tensor],
    steps: int,
    batch_size: int,
    initial: float = 0.01,
    reverse: bool = False,
) -> tf.data.Dataset:
    """Lets harder examples of a data set in as training goes on.

    At step t, an example passes if its difficulty is among the easiest
    `c(t)` of all, where `c` is `keras_mtl.data.competence`. The data set is
    gone through again and again, in its own order; so within one pass no
    example comes twice. Shuffle it before.

    Examples that do not pass yet are read and dropped: with `initial=0.01`,
    the first batches read a hundred examples for each that they keep.

    Args:
        dataset: `tf.data.Dataset` of single examples.
        difficulty: Function from an element, as `(x, y)`, to a number, such as
            the length of a sentence. It runs in the graph, and over the whole
            data set once in this call.
        steps: Integer T. Steps until all examples are in.
        batch_size: Integer. How many examples make a step.
        initial: Float in (0, 1]. The part to begin with. Defaults to `0.01`.
        reverse: Boolean. Hardest first, as a control. Defaults to `False`.

    Returns:
        An endless `tf.data.Dataset` of single examples.

    Raises:
        ValueError: If an argument is out of its range, or the data set is
            empty or endless.

    Example:

    >>> import tensorflow as tf
    >>> lengths = tf.data.Dataset.from_tensor_slices(np.array([5, 1, 4, 2, 3]))
    >>> paced = keras_mtl.data.pace(lengths, lambda n: n, steps=4, batch_size=1, initial=0.2)
    >>> [int(n) for n in paced.take(6)]
    [1, 2, 3, 5, 1, 4]

    Reference:

    - Platanios, Stretcu, Neubig, Poczos and Mitchell, "Competence-based
      Curriculum Learning for Neural Machine Translation", NAACL 2019.

    Deviations: the paper draws batches at random from the examples that pass.
    """
    check_boolean(reverse, "reverse")
    if not 0 < initial <= 1:
        raise ValueError(f"`initial` should be above 0 and at most 1. Received: initial={initial}")
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if not is_integer(value) or value < 1:
            raise ValueError(f"`{name}` should be an integer of at least 1. Received: {name}={value!r}")
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("`dataset` should have an end, since its examples are sorted. Received: an endless data set")

    def hard(*element: Any) -> Tensor:
        value = tf.cast(difficulty(*element), "float64")
        return -value if reverse else value

    sorted_values = np.sort([value.numpy() for value in dataset.map(hard, num_parallel_calls=tf.data.AUTOTUNE)])
    if not len(sorted_values):
        raise ValueError("`dataset` should have examples. Received: an empty data set")
    values = tf.constant(sorted_values)

    def admit(passed: Tensor, element: tuple[Structure, Tensor]) -> tuple[Tensor, tuple[Structure, Tensor]]:
        allowed = competence(tf.cast(passed // batch_size, "float64"), steps, initial)
        # The share of examples that are easier: the easiest ones pass from the start.
        share = tf.searchsorted(values, hard(*_as_tuple(element))[None])[0] / len(sorted_values)
        passes = share < allowed
        return passed + tf.cast(passes, "int64"), (element, passes)

    paced = dataset.repeat().scan(tf.constant(0, "int64"), admit)
    return paced.filter(lambda element, passes: passes).map(lambda element, passes: element)


def _as_tuple(element: Structure) -> tuple[Any, ...]:
    return element if isinstance(element, tuple) else (element,)
