"""Each private member of TensorFlow that is used does what `_tensorflow_private` needs of it."""

import functools

import tensorflow as tf

from keras_mtl import _tensorflow_private as private
from tests import upstream

rests_on = functools.partial(upstream.rests_on, "tensorflow")


@rests_on("tf.data.Dataset._inputs", "DatasetOf")
def test_a_data_set_of_another():
    options = tf.data.Options()
    options.deterministic = False
    given = tf.data.Dataset.range(3).with_options(options)
    made = private.DatasetOf(given)
    assert made.element_spec == given.element_spec and [int(x) for x in made] == [0, 1, 2]
    assert [int(x) for x in made.map(lambda x: x + 1)] == [1, 2, 3]
    assert made.options().deterministic is False  # inputs are asked for their options


@rests_on("tf.__internal__.distribute.strategy_supports_no_merge_call", "replicas_meet_in_branches")
def test_replicas_meet_in_branches(mirrored_strategy):
    assert private.replicas_meet_in_branches() is True
    with mirrored_strategy.scope():
        assert private.replicas_meet_in_branches() is False  # without NCCL they meet in a call that merges them


@rests_on("tensorflow.python.eager.context", "optimized_graph")
def test_the_optimized_graph_of_a_run():
    function = tf.function(lambda x: tf.exp(x) + tf.exp(x))
    graph = private.optimized_graph(lambda: function(tf.ones(3)))
    assert sum(node.op == "Exp" for node in graph.node) == 1  # the second is the first


def test_all_is_tested():
    assert upstream.untested(private, list(globals().values())) == set()
