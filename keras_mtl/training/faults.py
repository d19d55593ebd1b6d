"""Faults in training and evaluation: counted in the steps, raised or warned of on the host."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Structure, Tasks, Tensor
from keras_mtl.metrics._trackers import Tracker

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.compiled import Compiled

_SHARE = 0.01
_LET_PASS = (
    "Labels may be missing, inputs may not, unless layers of the model fill or clip them: "
    "`compile(check_inputs=False)` lets them pass."
)
_ADVICE = (
    "Look for NaN or infinity in the inputs, for NaN labels that `missing` does not name, or for a learning rate that "
    "is too high."
)


class Seen(NamedTuple):
    """What was not finite since the trackers were reset.

    Attributes:
        tasks: Dict from task to the number of its steps.
        skipped: Integer. Number of steps that were left out whole.
        inputs: `"NaN"`, `"infinity"`, `"NaN or infinity"` or `None`: what the
            inputs had.
    """

    tasks: dict[str, int]
    skipped: int
    inputs: str | None


class Faults(Tracker):
    """What was not finite in the steps: tasks, whole steps, inputs.

    The logs are `<task>_nonfinite`, the number of steps in which a task's loss
    or gradient was NaN or infinite, and `skipped_steps`, the number of those
    that were left out whole. None where `logged` is False.

    Args:
        tasks: Tuple of K task names.
        logged: Boolean. Whether there are logs.
    """

    def __init__(self, tasks: Tasks, logged: bool) -> None:
        super().__init__(name="faults")
        self.tasks = tuple(tasks)
        self.logged = logged
        self.log_names = (*(f"{task}_nonfinite" for task in tasks), "skipped_steps") if logged else ()
        # The tasks' steps, those left out, those with NaN and with infinities in the inputs: one variable, since every
        # step adds to it.
        self.steps = self.add_weight(shape=(len(tasks) + 3,), initializer="zeros", name="steps")

    def update_state(self, wrong: Tensor, skipped: Tensor, inputs: Sequence[Tensor], replicas: int = 1) -> None:
        """Adds one step.

        Args:
            wrong: Boolean tensor of shape `(K,)`.
            skipped: Boolean scalar.
            inputs: Two boolean scalars: whether they had NaN, and infinities.
            replicas: Integer. How many count the same step.
        """
        wrong = ops.concatenate([wrong, ops.stack([skipped, *inputs])])
        self.steps.assign_add(ops.cast(wrong, "float32") / replicas)

    def see_inputs(self, inputs: Sequence[Tensor]) -> None:
        """Adds the inputs of an evaluated batch, as in `update_state`."""
        self.update_state(np.zeros(len(self.tasks), bool), False, inputs)

    def any(self) -> Tensor:
        """Whether a step was left out."""
        return self.steps[len(self.tasks)] > 0

    def seen(self) -> Seen:
        """What there was, read from the device."""
        *counts, skipped, nan, infinite = ops.convert_to_numpy(self.steps.value).tolist()
        inputs = ["NaN"] * (nan > 0) + ["infinity"] * (infinite > 0)
        return Seen(dict(zip(self.tasks, map(round, counts), strict=True)), round(skipped), " or ".join(inputs) or None)

    def result(self) -> dict[str, Tensor]:
        if not self.logged:
            return {}
        return dict(zip(self.log_names, ops.unstack(self.steps.value)[: len(self.log_names)], strict=True))


def labelled(model: MultiTaskModel, step: str) -> dict[str, float]:
    """The number of labelled examples of each task since the trackers were reset.

    Args:
        model: A compiled `MultiTaskModel`.
        step: `"train_step"` or `"test_step"`. Whose examples they are.

    Returns:
        Dict from task to number. Empty where a subclass has a step of its own
        that tells the trackers nothing.
    """
    compiled = model.compiled_tasks
    counts = dict(zip(compiled.tasks, ops.convert_to_numpy(compiled.loss_tracker.counts), strict=True))
    return {} if model.overrides(step) and not any(counts.values()) else counts


def warn_unlabelled(model: MultiTaskModel, where: str) -> bool:
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


def check_finite(x: Structure) -> None:
    """Raises where an array of inputs has NaN or infinities.

    Args:
        x: Inputs, as `fit` takes them. What is no NumPy array is looked at in
            the step.
    """
    for array in keras.tree.flatten(x):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        # A sum is quick, and is not finite where an entry is not.
        with np.errstate(invalid="ignore", over="ignore"):
            if np.isfinite(array.sum(dtype="float64")):
                continue
        nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        if nan or infinite:
            found = [f"{nan} NaN"] * bool(nan) + [f"{infinite} infinite entries"] * bool(infinite)
            found = " and ".join(found)
            raise ValueError(
                f"`x` should be finite. Received: an array of shape {array.shape} with {found}. {_LET_PASS}"
            )


def is_all_or_nothing(model: MultiTaskModel) -> bool:
    """Whether a step that is not finite leaves the model as it was."""
    from keras_mtl.training.backends import core  # with the first step: the import of a backend takes its time

    return model.compiled_tasks.on_nonfinite != "raise" or core.branches_are_free(model)


def raise_faults(model: MultiTaskModel, where: str, seen: Seen | None = None, variables: bool = False) -> None:
    """Raises if inputs, or a step under `on_nonfinite="raise"`, were not finite.

    Args:
        model: A compiled `MultiTaskModel`.
        where: String. Where they were, for the message.
        seen: What the tracker has seen, if it was asked already. Defaults to
            `None`.
        variables: Boolean. Whether to look at the variables, where a step that
            is not finite is let through. Defaults to `False`.

    Raises:
        ValueError: If inputs were not, which `check_inputs` does not let pass.
        FloatingPointError: If numbers of a step were not. Names the tasks.
    """
    compiled = model.compiled_tasks
    if compiled.on_nonfinite != "raise":
        return
    seen = seen or compiled.faults.seen()
    if seen.inputs:
        compiled.faults.reset_state()
        raise ValueError(
            f"`x` should be finite. Received: {seen.inputs} in the inputs of {where}, from which the model has learned "
            f"nothing. {_LET_PASS}"
        )
    kept = is_all_or_nothing(model)
    damaged = [] if kept or not variables else [v.path for v in model.variables if not _is_finite(v)]
    if not seen.skipped and not damaged:
        return
    compiled.faults.reset_state()
    tasks = [task for task, count in seen.tasks.items() if count]
    what = "the gradients or the weighting's state, from finite losses"
    if tasks or damaged:
        what = f"the loss of {tasks}" if tasks else f"the variables {damaged}"
    state = (
        "The model is as it was before that step."
        if kept
        else "Training went on until now, since to stop would have made each step wait: go back to a saved state. "
        "`jit_compile=True` leaves such a step out at no cost."
    )
    raise FloatingPointError(
        f"The losses and gradients of all tasks should be finite. Received: NaN or infinity in {what}. {state} "
        f"{_ADVICE} `compile(on_nonfinite='skip_task')` or `'skip_step'` trains on without such steps."
    )


def _is_finite(variable: keras.Variable) -> bool:
    return "float" not in variable.dtype or bool(np.isfinite(ops.convert_to_numpy(ops.sum(variable.value))))


def warn_nonfinite(model: MultiTaskModel, seen: Seen, epoch: int) -> None:
    """Warns of the tasks and steps that an epoch left out.

    Args:
        model: A compiled `MultiTaskModel`.
        seen: What the tracker has seen.
        epoch: Integer. Counted from 0.
    """
    counts, skipped = seen.tasks, seen.skipped
    left_out = "Steps left out for this task" if model.compiled_tasks.on_nonfinite == "skip_task" else "Steps left out"
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


def warn_starved(compiled: Compiled, logs: Mapping[str, Any], epoch: int) -> bool:
    """Warns of tasks that the weighting has hardly trained.

    A small weight may be right: many weightings make up for large losses or
    gradients with it. It is not where the product of the two is small as well:
    less than half of an equal part of what is trained, at less than 1 % of all
    weight.

    Args:
        compiled: `Compiled` of the model.
        logs: Dict. The epoch's logs.
        epoch: Integer. Counted from 0.

    Returns:
        Boolean. Whether there was one.
    """

    def logged(name: str) -> np.ndarray:
        return np.array([logs.get(f"{task}_{name}", np.nan) for task in compiled.tasks], "float64")

    if compiled.weighting.weights_may_vanish or not compiled.weighting.weighs:
        return False
    static, losses = compiled.static_weights.numpy(), logged("loss")
    live = ~np.isnan(losses) & (static > 0)  # a task without a labelled example has no loss
    weights = np.abs(np.divide(logged("weight"), static, out=np.zeros_like(losses), where=live))
    parts = weights * np.abs(logged("grad_norm") if compiled.takes_task_gradients else losses * static)
    parts = np.where(live, parts, 0.0)
    total, whole = weights.sum(), parts.sum()
    if not (np.isfinite(total) and np.isfinite(whole)) or total == 0:
        return False
    starved = live & (weights < _SHARE * total)
    if whole > 0:
        starved &= parts < whole / (2 * live.sum())
    tasks = [task for task, is_starved in zip(compiled.tasks, starved, strict=True) if is_starved]
    if tasks:
        warnings.warn(
            f"The mean weight of {tasks} stayed below 1 % of all tasks' in epoch {epoch + 1}: "
            f"{'shared layers' if compiled.takes_task_gradients else 'the model'} hardly learned from them. "
            f"{_remedy(compiled)}",
            stacklevel=3,
        )
    return bool(tasks)


def _remedy(compiled: Compiled) -> str:
    name, config = type(compiled.weighting).__name__, compiled.weighting.get_config()
    if not compiled.takes_task_gradients:
        return f"`loss_weights` that bring losses to one size, or other options of {name}, give each task its part."
    if config.get("normalize", "") is None:
        return (
            f"Gradients of different sizes do that: `{name}(normalize='norm')` sees them at one length. So do "
            "`loss_weights` that bring them there."
        )
    return f"`loss_weights` that bring gradients to one size, or other options of {name}, give each task its part."
