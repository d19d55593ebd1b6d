"""What went wrong in training or evaluation: raised or warned of, as the trackers tell the host."""

import warnings

import numpy as np
from keras import ops

from keras_mtl.training.arrays import LET_PASS

_SHARE = 0.01
_ADVICE = (
    "Look for NaN or infinity in the inputs, for NaN labels that `missing` does not name, or for a learning rate that "
    "is too high."
)


def labelled(model, step):
    """The number of labelled examples of each task since the trackers were reset.

    Args:
        model: A compiled `MultiTaskModel`.
        step: `"train_step"` or `"test_step"`. Whose examples they are.

    Returns:
        Dict from task to number. Empty where a subclass has a step of its own
        that tells the trackers nothing.
    """
    compiled = model.compiled_tasks
    counts = dict(zip(compiled.tasks, ops.convert_to_numpy(compiled.loss_tracker.counts.value), strict=True))
    return {} if model.overrides(step) and not any(counts.values()) else counts


def warn_unlabelled(model, where):
    """Warns of tasks without a labelled example in an evaluation that has just ended.

    Args:
        model: A compiled `MultiTaskModel`.
        where: String. Ends the sentence.

    Returns:
        Boolean. Whether there were any.
    """
    left_out = model.compiled_tasks.left_out
    tasks = [task for task, count in labelled(model, "test_step").items() if count == 0 and task not in left_out]
    for task in tasks:
        warnings.warn(f"Task '{task}' had no labelled example {where}.", stacklevel=3)
    return bool(tasks)


def raise_faulty_inputs(model, where):
    """Raises if inputs had NaN or infinities, which `check_inputs` does not let pass.

    Args:
        model: A compiled `MultiTaskModel`.
        where: String. Where they were, for the message.

    Raises:
        ValueError: Saying which of the two it was.
    """
    compiled = model.compiled_tasks
    found = None if compiled.inputs_tracker is None else compiled.inputs_tracker.seen()
    if found is None:
        return
    compiled.inputs_tracker.reset_state()
    compiled.nonfinite_tracker.reset_state()
    raise ValueError(
        f"`x` should be finite. Received: {found} in the inputs of {where}, from which the model has learned nothing. "
        f"{LET_PASS}"
    )


def raise_nonfinite(model):
    """Raises if a step was not finite and `on_nonfinite` is `"raise"`.

    Args:
        model: A compiled `MultiTaskModel`.

    Raises:
        FloatingPointError: Naming the tasks.
    """
    compiled = model.compiled_tasks
    if compiled.on_nonfinite != "raise":
        return
    counts, skipped = compiled.nonfinite_tracker.seen()
    if not skipped:
        return
    tasks = [task for task, count in counts.items() if count]
    compiled.nonfinite_tracker.reset_state()
    what = f"the loss of {tasks}" if tasks else "the gradients or the weighting's state, from finite losses"
    raise FloatingPointError(
        f"The losses and gradients of all tasks should be finite. Received: NaN or infinity in {what}. The model is as "
        f"it was before that step. {_ADVICE} `compile(on_nonfinite='skip_task')` or `'skip_step'` trains on without "
        "such steps."
    )


def warn_nonfinite(model, epoch):
    """Warns of the tasks and steps that an epoch left out.

    Args:
        model: A compiled `MultiTaskModel`.
        epoch: Integer. Counted from 0.
    """
    compiled = model.compiled_tasks
    counts, skipped = compiled.nonfinite_tracker.seen()
    left_out = "Steps left out for this task" if compiled.on_nonfinite == "skip_task" else "Steps left out"
    for task, count in counts.items():
        if count:
            warnings.warn(
                f"The loss or gradient of task '{task}' was NaN or infinite in epoch {epoch + 1}. {left_out}: "
                f"{count}. {_ADVICE}",
                stacklevel=3,
            )
    if skipped and not any(counts.values()):
        warnings.warn(
            f"Gradients, or the weighting's state, were NaN or infinite in epoch {epoch + 1}, although the losses were "
            f"finite. Steps left out: {skipped}. {_ADVICE}",
            stacklevel=3,
        )


def starved_tasks(compiled):
    """Tasks that the weighting has hardly trained since the trackers were reset.

    A small weight may be right: many weightings make up for large losses or
    gradients with it. It is not where the product of the two is small as well:
    less than half of an equal part of what is trained, at less than 1 % of all
    weight.

    Args:
        compiled: `Compiled` of the model.

    Returns:
        List of tasks.
    """
    static = ops.convert_to_numpy(compiled.static_weights.value)
    live = (ops.convert_to_numpy(compiled.loss_tracker.counts.value) > 0) & (static > 0)
    weights = compiled.weight_tracker.numpy()
    weights = np.abs(np.divide(weights, static, out=np.zeros_like(weights), where=live))
    sizes = compiled.norm_tracker.numpy() if compiled.takes_task_gradients else compiled.loss_tracker.numpy() * static
    parts = weights * np.abs(sizes)
    total, whole = weights.sum(), parts.sum()
    if not (np.isfinite(total) and np.isfinite(whole)) or total == 0:
        return []
    small_part = parts < whole / (2 * live.sum()) if whole > 0 else True
    starved = live & (weights < _SHARE * total) & small_part
    return [task for task, is_starved in zip(compiled.tasks, starved, strict=True) if is_starved]


def warn_starved(compiled, tasks, epoch):
    """Warns of tasks that the weighting has hardly trained.

    Args:
        compiled: `Compiled` of the model.
        tasks: List from `starved_tasks`.
        epoch: Integer. Counted from 0.
    """
    if tasks:
        warnings.warn(
            f"The mean weight of {tasks} stayed below 1 % of all tasks' in epoch {epoch + 1}: "
            f"{'shared layers' if compiled.takes_task_gradients else 'the model'} hardly learned from them. "
            f"{_remedy(compiled)}",
            stacklevel=3,
        )


def _remedy(compiled):
    name, config = type(compiled.weighting).__name__, compiled.weighting.get_config()
    if not compiled.takes_task_gradients:
        return f"`loss_weights` that bring losses to one size, or other options of {name}, give each task its part."
    if config.get("normalize", "") is None:
        return (
            f"Gradients of different sizes do that: `{name}(normalize='norm')` sees them at one length. So do "
            "`loss_weights` that bring them there."
        )
    return f"`loss_weights` that bring gradients to one size, or other options of {name}, give each task its part."
