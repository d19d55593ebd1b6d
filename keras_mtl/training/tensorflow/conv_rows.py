"""Gradients of a convolution's kernel and bias for K tasks at once, where one at a time wastes a CPU's registers."""

import math

import tensorflow as tf

_LANES = 16  # channels that a convolution on a CPU computes together, in float32
_LEAST = 128  # multiplications for each entry of an output: below this, to bring the tasks together costs more


def stack_convolutions(rows):
    """Takes the kernel gradients of all tasks in one convolution where that is faster.

    A kernel's gradient is a convolution of the layer's inputs, which all tasks
    share, with `dL_k/dy` of its outputs. With few or odd output channels a CPU
    computes channels that nobody asked for; those of K tasks side by side leave
    less room. A graph tells how a gradient comes about, so this does nothing
    when executing eagerly. On a GPU it has not been measured and is left out.

    Args:
        rows: List of K lists of gradients, `None` where a task does not reach
            a target.

    Returns:
        The same gradients, up to rounding, in a list of K lists.
    """
    if len(rows) == 1 or tf.executing_eagerly() or tf.config.list_logical_devices("GPU"):
        return rows
    columns = [list(column) for column in zip(*rows, strict=True)]
    stacked = {}
    for column in columns:
        if _is_faster(column):
            deltas = [gradient.op.inputs[2] for gradient in column]
            together = stacked[_refs(deltas)] = tf.concat(deltas, axis=-1)
            column[:] = tf.split(_kernel_gradient(column[0].op, together), len(column), axis=-1)
    for column in columns:
        if _all_are("BiasAddGrad", column):
            together = stacked.get(_refs([gradient.op.inputs[0] for gradient in column]))
            if together is not None:
                column[:] = tf.split(tf.raw_ops.BiasAddGrad(out_backprop=together), len(column))
    return [list(row) for row in zip(*columns, strict=True)]


def _all_are(kind, gradients):
    return all(isinstance(g, tf.Tensor) and g.op.type == kind for g in gradients)


def _is_faster(gradients):
    if not _all_are("Conv2DBackpropFilter", gradients):
        return False
    first = gradients[0].op
    if any(g.op.inputs[0] is not first.inputs[0] for g in gradients) or first.get_attr("data_format") != b"NHWC":
        return False
    *window, filters = gradients[0].shape
    if None in (*window, filters) or gradients[0].dtype != tf.float32:
        return False
    computed = math.ceil(filters / _LANES) * _LANES
    return 3 * filters <= 2 * computed and math.prod(window) >= _LEAST


def _kernel_gradient(op, deltas):
    *window, filters = op.outputs[0].shape
    options = {name: op.get_attr(name) for name in ("strides", "padding", "explicit_paddings", "dilations")}
    together = [*window, filters * deltas.shape[-1] // op.inputs[2].shape[-1]]
    return tf.raw_ops.Conv2DBackpropFilter(input=op.inputs[0], filter_sizes=together, out_backprop=deltas, **options)


def _refs(tensors):
    return tuple(tensor.ref() for tensor in tensors)
