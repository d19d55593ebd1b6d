"""What only private members of TensorFlow give, each in one small function or class.

Nothing else in the package touches a private member of TensorFlow. See
`keras_mtl/_keras_private.py`. Importing this imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_mtl._types import Structure


class DatasetOf(tf.data.Dataset):
    """A data set that gives what another one gives; subclasses add to it.

    `tf.data.Dataset` can be subclassed, but what its inputs are it asks by a
    private method.

    Args:
        dataset: `tf.data.Dataset`.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self._given = dataset
        super().__init__(tf.data.experimental.to_variant(dataset))

    @property
    def element_spec(self) -> Structure:
        return self._given.element_spec

    def _inputs(self) -> list[tf.data.Dataset]:
        return [self._given]


def optimized_graph(run: Callable[..., Any]) -> object:
    """The graph of the largest function that is traced and run within a call, as TensorFlow has optimized it.

    Args:
        run: Function without arguments, which calls a `tf.function` for the
            first time.

    Returns:
        `GraphDef`.
    """
    from tensorflow.python.eager import context

    context.context().enable_graph_collection()
    try:
        run()
        found = context.context().export_run_metadata()
    finally:
        context.context().disable_graph_collection()
    return max((each.post_optimization_graph for each in found.function_graphs), key=lambda graph: len(graph.node))


def replicas_meet_in_branches() -> bool:
    """Whether replicas can add up what they have inside a branch of a graph, without a call that merges them."""
    return tf.__internal__.distribute.strategy_supports_no_merge_call()
