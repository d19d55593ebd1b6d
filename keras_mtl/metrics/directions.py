"""Whether higher is better for a metric."""

from collections.abc import Mapping

_HIGHER = (
    "accuracy",
    "acc",
    "auc",
    "precision",
    "recall",
    "f1",
    "fbeta",
    "iou",
    "r2",
    "dice",
    "cosine_similarity",
    "pearson",
    "ndcg",
    "true_positives",
    "true_negatives",
    "return",
    "reward",
)
_LOWER = (
    "loss",
    "error",
    "mse",
    "mae",
    "mape",
    "msle",
    "rmse",
    "crossentropy",
    "hinge",
    "kl_divergence",
    "poisson",
    "log_cosh",
    "false_positives",
    "false_negatives",
    "gap",
)


def higher_is_better(metric: str, directions: Mapping[str, str] | None = None) -> bool:
    """Whether a higher value of a metric is better, told from its name.

    Args:
        metric: String. Name of a metric or a log, such as `"accuracy"` or
            `"left_auc"`.
        directions: Dict from metric name to `"max"` or `"min"`, for metrics
            whose name does not tell.

    Returns:
        Boolean.

    Raises:
        ValueError: If neither the name nor `directions` tells.

    Example:

    >>> keras_mtl.metrics.higher_is_better("left_accuracy"), keras_mtl.metrics.higher_is_better("price_mae")
    (True, False)
    """
    direction = (directions or {}).get(metric)
    if direction in ("max", "min"):
        return direction == "max"
    name = metric.lower()
    lower, higher = (any(word in name for word in words) for words in (_LOWER, _HIGHER))
    if direction is not None or lower == higher:
        raise ValueError(
            f"`directions` should say 'max' or 'min' for metric '{metric}', whose name does not tell which is better. "
            f"Received: directions={directions!r}"
        )
    return higher
