"""A softmax that takes one entry too."""

from keras import ops


def softmax(logits):
    """Softmax over the last axis.

    Keras' own warns where that axis has one entry, as where a gate has a lone
    option. There it is 1, and its gradient is 0.

    Args:
        logits: Float tensor.

    Returns:
        Tensor of that shape, with sum 1 over the last axis.
    """
    return ops.exp(ops.log_softmax(logits)) if logits.shape[-1] == 1 else ops.softmax(logits)
