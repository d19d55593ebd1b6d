"""Labels with gaps: which entries are labelled, and what they weigh."""

from typing import Any, NamedTuple

import keras
from keras import ops


class Labels(NamedTuple):
    """One task's labels on one batch.

    Attributes:
        y_true: Labels; 0 where they are missing.
        y_pred: Predictions in the same form.
        weight: `None` or float32 tensor, broadcastable to `mask`: sample and
            class weights.
        mask: `None`, where all is labelled, or float32 tensor of 0 and 1, one
            entry for each value of the loss.
        entrywise: Whether single entries of the last axis are masked, so that
            the loss has a value for each of them.
    """

    y_true: Any
    y_pred: Any
    weight: Any
    mask: Any
    entrywise: bool

    def where(self, condition):
        """The labels, or the same with none of them known.

        Args:
            condition: Boolean scalar.

        Returns:
            `Labels`.
        """
        kept = ops.cast(condition, "float32")
        if self.mask is None:
            rank = len(self.y_pred.shape) if self.entrywise else max(len(self.y_pred.shape) - 1, 1)
            mask = kept * ops.ones(ops.shape(self.y_pred)[:rank], "float32")
        else:
            mask = kept * self.mask
        y_true, y_pred = (ops.where(condition, y, ops.zeros_like(y)) for y in (self.y_true, self.y_pred))
        return self._replace(y_true=y_true, y_pred=y_pred, mask=mask)


def read_labels(y_true, y_pred, *, missing=None, inside=None, sample_weight=None, class_weight=None, elementwise=False):
    """Finds out which labels of a task count, and puts 0 where they don't.

    Args:
        y_true: Labels of one task.
        y_pred: Predictions of that task.
        missing: `None`, `"nan"` or the value that stands for a missing label.
        inside: `None` or a boolean tensor over examples: the sample space.
        sample_weight: `None` or a tensor over examples, positions or entries.
            Where it is 0, the label does not count. Booleans are a mask.
        class_weight: `None` or a dict from class to weight. Under an
            elementwise loss, 0 and 1 are the classes of single entries.
        elementwise: Boolean. Whether the loss is a mean over the last axis, so
            that single entries can be masked.

    Returns:
        `Labels`.
    """
    y_true = ops.convert_to_tensor(y_true)
    weight = None if sample_weight is None else ops.convert_to_tensor(sample_weight)
    rank = len(y_pred.shape)
    entries = elementwise and rank > 1 and y_pred.shape[-1] != 1 and len(y_true.shape) == rank
    # Classes 0 and 1 are those of each entry; others can only be those of a one-hot vector.
    binary = bool(class_weight) and set(class_weight) <= {0, 1}
    by_entry = missing is not None or binary or (weight is not None and weight.shape[1:] == y_pred.shape[1:])
    entrywise = entries and by_entry
    value_rank = rank if entrywise else max(rank - 1, 1)

    masks = [getattr(y_pred, "_keras_mask", None), inside]
    if weight is not None:
        weight = _to_rank(weight, value_rank)
        if str(keras.backend.standardize_dtype(weight.dtype)) == "bool":
            masks.append(weight)
            weight = None
        else:
            masks.append(ops.not_equal(weight, 0))
            weight = ops.cast(weight, "float32")
    known = _known(y_true, missing)
    if known is not None:
        if len(known.shape) > value_rank:
            known = ops.all(known, axis=-1)
        masks.append(known)

    masks = [_to_rank(ops.cast(mask, "bool"), value_rank) for mask in masks if mask is not None]
    mask = None
    for one in masks:
        mask = one if mask is None else ops.logical_and(mask, one)
    if mask is not None:
        at_labels = mask[..., None] if len(y_true.shape) > value_rank else mask
        y_true = ops.where(at_labels, y_true, ops.zeros_like(y_true))
        mask = ops.cast(mask, "float32")
    if class_weight:
        by_class = _to_rank(_class_weights(y_true, y_pred, class_weight, entrywise and binary), value_rank)
        weight = by_class if weight is None else weight * by_class
    counted = mask is not None or weight is not None
    if counted and elementwise and rank > 2 and y_pred.shape[-1] == 1 and len(y_true.shape) == rank - 1:
        # Else Keras would drop the predictions' last axis, and the mean over positions would leave none to mask.
        y_true = y_true[..., None]
    return Labels(y_true, y_pred, weight, mask, entrywise)


def _known(y_true, missing):
    if missing is None:
        return None
    if missing == "nan":
        return ops.logical_not(ops.isnan(y_true)) if "float" in str(y_true.dtype) else None
    return ops.not_equal(y_true, ops.cast(missing, y_true.dtype))


def _to_rank(x, rank):
    """Drops a last axis of 1, or adds axes of 1, until the rank fits."""
    while len(x.shape) > rank and x.shape[-1] == 1:
        x = ops.squeeze(x, axis=-1)
    if len(x.shape) > rank:
        raise ValueError(f"Weights and masks should have at most {rank} axes here. Received: shape {x.shape}")
    while len(x.shape) < rank:
        x = ops.expand_dims(x, axis=-1)
    return x


def _class_weights(y_true, y_pred, class_weight, of_entries):
    if len(y_true.shape) == len(y_pred.shape) and y_pred.shape[-1] != 1 and not of_entries:
        classes = ops.argmax(y_true, axis=-1)
    else:
        classes = ops.cast(y_true, "int32")
    table = [float(class_weight.get(c, 1.0)) for c in range(max(class_weight) + 1)] + [1.0]
    return ops.take(ops.convert_to_tensor(table, "float32"), ops.clip(classes, 0, len(table) - 1))
