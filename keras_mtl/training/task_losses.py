"""Task losses as (sum, divisor, count) over the labelled examples."""

from typing import NamedTuple

from keras import ops

from keras_mtl.training.label_shapes import check_label_shape
from keras_mtl.training.labels import Labels, read_labels
from keras_mtl.training.resolve import is_elementwise


class TaskBatch(NamedTuple):
    """The tasks' losses on one batch, before any weighting.

    Attributes:
        sums: List of K scalar tensors. Summed loss of the labelled examples.
            Not stacked, so that the gradient of one task's loss never passes
            through the others'.
        divisors: Float tensor of shape `(K,)`. What the sums are divided by.
        counts: Float tensor of shape `(K,)`. Number of labelled examples; of
            positions or entries, where the loss has a value for each.
        labels: Dict from task to `Labels`, for the tasks in the batch.
        columns: Dict of what `y` has beside the tasks' labels.
    """

    sums: list
    divisors: object
    counts: object
    labels: dict[str, Labels]
    columns: dict


class TaskLosses:
    """Computes every task's loss over its own labelled examples.

    An example is unlabelled for a task where its label is missing (see
    `missing`), where the task's sample weight is exactly 0, or where it lies
    outside the task's sample space. Missing labels never reach the loss.

    Args:
        losses: Dict from task to `keras.losses.Loss`.
        outputs: Tuple of the names of all outputs.
        missing: Dict from task to `"nan"` or the value of a missing label.
        sample_space: Dict from task to the task whose label must be 1.
        class_weight: Dict from task to a dict from class to weight.
        columns: Names of entries of `y` that metrics or penalties read.
    """

    def __init__(self, losses, outputs, missing=None, sample_space=None, class_weight=None, columns=()):
        self.losses = losses
        self.tasks = tuple(losses)
        self.summed = [loss.reduction == "sum" for loss in losses.values()]
        self.outputs = tuple(outputs)
        self.missing = missing or {}
        self.sample_space = sample_space or {}
        self.class_weight = class_weight or {}
        self.columns = tuple(columns)

    def __call__(self, y, y_pred, sample_weight=None, training=False):
        """Computes the losses of a batch.

        Args:
            y: Dict from task to labels; tasks may be left out. Columns stand
                beside them.
            y_pred: Dict from task to predictions.
            sample_weight: `None`, a tensor, or a dict from task to tensor.
            training: Boolean. Class weights hold in training only.

        Returns:
            A `TaskBatch`.
        """
        columns = {name: y[name] for name in self.columns if y.get(name) is not None} if isinstance(y, dict) else {}
        y = self._by_task(self._without_columns(y), "y")
        if not isinstance(sample_weight, dict):
            sample_weight = dict.fromkeys(self.outputs, sample_weight)
        sample_weight = self._by_task(self._without_columns(sample_weight), "sample_weight")
        labels = {}
        for task in self.outputs:
            if y.get(task) is not None:
                if task in self.losses:
                    check_label_shape(task, self.losses[task], y[task], y_pred[task])
                labels[task] = read_labels(
                    y[task],
                    y_pred[task],
                    missing=self.missing.get(task),
                    inside=self._inside(task, y, y_pred[task]),
                    sample_weight=sample_weight.get(task),
                    class_weight=self.class_weight.get(task) if training else None,
                    elementwise=task in self.losses and is_elementwise(self.losses[task]),
                )
        absent = (ops.zeros((), "float32"),) * 3
        results = [self._loss(task, labels[task]) if task in labels else absent for task in self.tasks]
        sums, divisors, counts = zip(*results, strict=True)
        return TaskBatch(list(sums), ops.stack(divisors), ops.stack(counts), labels, columns)

    def _without_columns(self, given):
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if key in self.outputs or key not in self.columns}

    def _by_task(self, given, argument):
        if given is None:
            return {}
        if not isinstance(given, dict):
            if len(self.outputs) == 1:
                return {self.outputs[0]: given}
            raise ValueError(
                f"`{argument}` should be a dict keyed by task, {self.outputs}. Received: {type(given).__name__}"
            )
        unknown = [key for key in given if key not in self.outputs]
        if unknown:
            columns = f", or columns that metrics or penalties read: {self.columns}" if self.columns else ""
            raise ValueError(f"The keys of `{argument}` should be tasks: {self.outputs}{columns}. Received: {unknown}")
        return given

    def _inside(self, task, y, y_pred):
        condition = self.sample_space.get(task)
        if condition is None:
            return None
        if y.get(condition) is None:
            raise ValueError(
                f"`sample_space` trains task '{task}' where the label of '{condition}' is 1, so `y` should have "
                f"'{condition}' too. Received: labels of {list(y)}"
            )
        labels = ops.convert_to_tensor(y[condition])
        given, predicted = tuple(labels.shape), tuple(y_pred.shape)
        needed = given[:-1] if given[-1:] == (1,) else given
        fits = all(None in (n, m) or n in (1, m) for n, m in zip(needed, predicted, strict=False))
        if len(needed) > len(predicted) or not fits:
            raise ValueError(
                f"`sample_space` trains task '{task}' where the label of '{condition}' is 1, so there should be one of "
                f"these for each example or entry of its predictions, of shape {predicted}. Received: labels of "
                f"shape {given}"
            )
        return ops.equal(labels, ops.cast(1, labels.dtype))

    def _loss(self, task, labels):
        loss = self.losses[task]
        y_true, y_pred = _as_dtype(labels.y_true, loss.dtype), _as_dtype(labels.y_pred, loss.dtype)
        if labels.entrywise:
            y_true, y_pred = y_true[..., None], _as_entries(y_pred)
        values = loss.call(y_true, y_pred)
        labels = _without_ignored(labels, getattr(values, "_keras_mask", None))
        values = ops.cast(values, "float32")
        if len(values.shape) == 0:
            return _scalar_loss(task, values, labels)
        if labels.mask is None and labels.weight is None:
            count = ops.cast(ops.size(values), "float32")
            return ops.sum(values), ops.ones_like(count) if loss.reduction == "sum" else count, count
        # It is given the full shape, so that what it counts are values of the loss.
        mask = ops.ones_like(values) if labels.mask is None else labels.mask
        mask = mask if mask.shape == values.shape else ops.broadcast_to(mask, ops.shape(values))
        # 0 * inf is NaN: values of unlabelled examples are replaced, not multiplied by 0.
        known = ops.where(mask > 0, values, ops.zeros_like(values))
        weight = mask if labels.weight is None else mask * labels.weight
        total = ops.sum(known if labels.weight is None else known * weight)
        count = ops.sum(mask)
        if loss.reduction == "sum":
            return total, ops.ones_like(count), count
        return total, ops.sum(weight) if loss.reduction == "mean_with_sample_weight" else count, count


def _without_ignored(labels, kept):
    """Labels less those that the loss itself leaves out, as `ignore_class` does."""
    if kept is None:
        return labels
    kept = ops.cast(kept, "float32")
    return labels._replace(mask=kept if labels.mask is None else labels.mask * kept)


def _scalar_loss(task, value, labels):
    if labels.mask is not None or labels.weight is not None:
        raise ValueError(
            f"The loss of task '{task}' should return a value for each example, so that examples can be left out or "
            "weighted. Received: a loss that returns one number for the batch"
        )
    batch_size = ops.cast(ops.shape(labels.y_pred)[0], "float32")
    return value * batch_size, batch_size, batch_size


def _as_entries(y_pred):
    """Predictions with an axis of 1 behind, and with the logits that Keras keeps beside a sigmoid."""
    entries, logits = y_pred[..., None], getattr(y_pred, "_keras_logits", None)
    if logits is not None:
        entries._keras_logits = logits[..., None]
    return entries


def _as_dtype(x, dtype):
    # A cast makes a new tensor, which would lose the logits that Keras keeps beside a softmax.
    return x if x.dtype == dtype else ops.cast(x, dtype)
