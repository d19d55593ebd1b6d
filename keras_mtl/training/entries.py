"""How Keras' metrics take vectors of which single entries are labelled."""

import keras
from keras import ops

# They look at a vector as a whole, so no entry of it can be left out.
_OF_VECTORS = (
    keras.metrics.CategoricalAccuracy,
    keras.metrics.CategoricalCrossentropy,
    keras.metrics.CategoricalHinge,
    keras.metrics.ConcordanceCorrelation,
    keras.metrics.CosineSimilarity,
    keras.metrics.KLDivergence,
    keras.metrics.OneHotIoU,
    keras.metrics.OneHotMeanIoU,
    keras.metrics.PearsonCorrelation,
    keras.metrics.TopKCategoricalAccuracy,
)


def entries_for(metric, y_true, y_pred, weight, task, only_mask=True):
    """What a metric is given where single entries are masked.

    A metric that keeps a number for each label (with an attribute
    `multi_label` that is true, and `R2Score`) gets the vectors and a weight for
    each entry; F-scores, which take no such weights, predictions that are 0
    where the label is missing; other metrics one entry as one example.

    Args:
        metric: A `keras.metrics.Metric`.
        y_true: Labels of shape `(..., L)`; 0 where they are missing.
        y_pred: Predictions of the same shape.
        weight: `None` or a tensor that broadcasts to that shape; 0 where a
            label is missing.
        task: String. The task, for messages.
        only_mask: Boolean. Whether `weight` has no numbers but 0 and 1.

    Returns:
        Tuple of `y_true`, `y_pred` and `sample_weight` for `update_state`.
    """
    if weight is not None:
        weight = ops.broadcast_to(weight, ops.shape(y_pred))
    if isinstance(metric, keras.metrics.FBetaScore):
        if metric.threshold is None or not only_mask:
            raise ValueError(
                f"Metric '{metric.name}' of task '{task}' should have a `threshold` and no weights other than 0 and 1, "
                f"since single entries of the labels are missing. Received: threshold={metric.threshold}"
            )
        # Counted nowhere: neither predicted nor true.
        return y_true, y_pred if weight is None else ops.where(weight > 0, y_pred, ops.zeros_like(y_pred)), None
    if getattr(metric, "multi_label", False) or isinstance(metric, keras.metrics.R2Score):
        return y_true, y_pred, weight
    if isinstance(metric, _OF_VECTORS):
        raise ValueError(
            f"The metrics of task '{task}' should count single entries, since single entries of its labels are missing "
            f"or weighted. Received: '{metric.name}', which looks at whole vectors"
        )
    weight = None if weight is None else ops.reshape(weight, (-1,))
    return ops.reshape(y_true, (-1, 1)), ops.reshape(y_pred, (-1, 1)), weight
