"""The names of the logs: unique, or `compile` refuses."""

import collections


def names_of(tracker):
    """Names of the logs that a tracker is known to give, in their order."""
    return list(getattr(tracker, "log_names", (tracker.name,)))


def check_log_names(model, evaluation, training, others):
    """Raises where two numbers would have the same name in the logs of `fit`.

    Args:
        model: String. Name of the model.
        evaluation: List of the trackers of evaluation.
        training: List of all trackers.
        others: List of the metrics that the model has besides.
    """
    of_evaluation = [name for tracker in [*evaluation, *others] for name in names_of(tracker)]
    names = [name for tracker in [*training, *others] for name in names_of(tracker)]
    names += [f"val_{name}" for name in of_evaluation]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"The logs of model '{model}' should have names of their own, made of the names of tasks and metrics, with "
            "'val_' before those of validation. Rename a task, or a metric by its `name`. "
            f"Received: two logs named {', '.join(repr(name) for name in twice)}"
        )
