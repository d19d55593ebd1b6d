"""Average fairness and error of several tasks, relative to single-task models."""

from collections.abc import Mapping


def average_relative_gap(gaps: Mapping[str, float], single_task: Mapping[str, float]) -> float:
    """Average relative fairness gap over tasks.

    `ARFG = 1/K sum_k gap_k / gap_k(single-task)`. Below 1 the multi-task model is fairer than the
    single-task ones.

    Args:
        gaps: Dict from task to the gap of the multi-task model, such as
            `EqualizedOddsGap` gives.
        single_task: Same, of the tasks' single-task models.

    Returns:
        Float.

    Raises:
        ValueError: If the tasks differ, or a single-task value is not
            positive.

    Example:

    >>> keras_mtl.fairness.average_relative_gap({"income": 0.1, "college": 0.3}, {"income": 0.2, "college": 0.3})
    0.75

    Reference:

    - Y. Wang et al., "Understanding and Improving Fairness-Accuracy Trade-offs in Multi-Task Learning", KDD 2021,
      arXiv:2106.02705.
    """
    return _mean_ratio(gaps, single_task, "gaps")


def average_relative_error(errors: Mapping[str, float], single_task: Mapping[str, float]) -> float:
    """Average relative error over tasks.

    `ARE = 1/K sum_k error_k / error_k(single-task)`. Below 1 the multi-task model is more accurate
    than the single-task ones.

    Args:
        errors: Dict from task to the error of the multi-task model: lower is
            better.
        single_task: Same, of the tasks' single-task models.

    Returns:
        Float.

    Raises:
        ValueError: If the tasks differ, or a single-task value is not
            positive.

    Example:

    >>> keras_mtl.fairness.average_relative_error({"income": 0.06, "college": 0.2}, {"income": 0.05, "college": 0.2})
    1.1

    Reference: that of `average_relative_gap`.
    """
    return _mean_ratio(errors, single_task, "errors")


def _mean_ratio(values: Mapping[str, float], single_task: Mapping[str, float], argument: str) -> float:
    if not values or set(values) != set(single_task):
        raise ValueError(
            f"`{argument}` and `single_task` should have the same tasks. "
            f"Received: {list(values)} and {list(single_task)}"
        )
    wrong = {task: value for task, value in single_task.items() if not value > 0}
    if wrong:
        raise ValueError(f"`single_task` should have positive values, to divide by. Received: {wrong}")
    return sum(values[task] / single_task[task] for task in values) / len(values)
