"""The hyperparameters of each family of architectures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from keras_mtl._types import Tasks

if TYPE_CHECKING:
    import keras_tuner


class Family:
    """Declares hyperparameters that are active where their family is chosen.

    Args:
        hp: `keras_tuner.HyperParameters`.
        name: String. The family.
        alone: Boolean. Whether it is the only one, so that there is no
            condition.
        given: Collection of options that are given and not declared.
    """

    def __init__(self, hp: keras_tuner.HyperParameters, name: str, alone: bool, given: Collection[str]) -> None:
        self.hp, self.name, self.given = hp, name, given
        self._when = {} if alone else {"parent_name": "family", "parent_values": [name]}

    def options(self, **declared: Any) -> dict[str, int]:
        """Dict from option to its value now; `None` where it is not active.

        Args:
            **declared: For each option a tuple of a method of `hp` (`"Int"`,
                `"Float"`, `"Choice"`, `"Boolean"`), its arguments, and maybe a
                dict of further ones.
        """
        return {
            option: getattr(self.hp, kind)(
                f"{self.name}/{option}", *args, **{**(more[0] if more else {}), **self._when}
            )
            for option, (kind, args, *more) in declared.items()
            if option not in self.given
        }

    def under(self, name: str, values: Sequence[int]) -> dict[str, str | Sequence[int]]:
        """The condition that another hyperparameter of the family has one of these values."""
        return {"parent_name": f"{self.name}/{name}", "parent_values": values}

    def scope(self) -> AbstractContextManager[Any]:
        """The family's own condition, for conditions within it."""
        return self.hp.conditional_scope(**self._when) if self._when else _Nothing()


class _Nothing:
    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *error: Any) -> None:
        return None


def _hard_sharing(family: Family, tasks: Tasks, depths: tuple[int, int], count: int) -> dict[str, Any]:
    least, most = depths
    return family.options(shared_depth=("Int", (least, most), {"default": most}))


def _branched_sharing(family: Family, tasks: Sequence[str], depths: tuple[int, int], count: int) -> dict[str, Any]:
    """A tree by joining: each task goes along with an earlier one for some stages.

    A group of a stage is a set of tasks that such joints connect. Going down,
    joints only fall away, so groups only split: the result is always a tree.
    """
    if "branches" in family.given:
        return {}
    least, most = depths
    joints = []
    for index, task in enumerate(tasks[1:], start=1):
        joint = f"depth_{task}"
        depth = family.options(**{joint: ("Int", (least, most), {"default": most})})[joint]
        beside = tasks[0]
        if index > 1 and most > 0:
            when = {} if least else family.under(joint, list(range(1, most + 1)))
            with family.scope():
                beside = family.hp.Choice(f"{family.name}/beside_{task}", list(tasks[:index]), **when)
        joints.append((task, beside, depth))
    if any(depth is None for *_, depth in joints):
        return {}
    return {"branches": tree_of(tasks, joints, count)}


def tree_of(tasks: Sequence[str], joints: Sequence[tuple[str, str, int]], count: int) -> list[list[list[str]]]:
    """The groups of tasks at each stage.

    Args:
        tasks: Tuple of tasks.
        joints: List of tuples of a task, one before it, and the number of
            stages that they go along.
        count: Integer. Number of stages.

    Returns:
        What `branched_sharing` takes as `branches`.
    """
    branches = []
    for stage in range(count):
        group_of = {tasks[0]: [tasks[0]]}
        for task, beside, depth in joints:
            group = group_of[beside] if depth > stage else []
            group.append(task)
            group_of[task] = group
        branches.append(list({id(group): group for group in group_of.values()}.values()))
    return branches


def _soft_sharing(family: Family, tasks: Tasks, depths: tuple[int, int], count: int) -> dict[str, Any]:
    return family.options(
        distance=("Choice", (["l2", "trace_norm"],)),
        strength=("Float", (1e-5, 1e-1), {"sampling": "log", "default": 1e-2}),
    )


def _cross_stitch(family: Family, tasks: Tasks, depths: tuple[int, int], count: int) -> dict[str, Any]:
    return family.options(per=("Choice", (["channel", "layer"],)), self_weight=("Float", (0.5, 1.0), {"default": 0.9}))


def _sluice(family: Family, tasks: Tasks, depths: tuple[int, int], count: int) -> dict[str, Any]:
    options = family.options(
        subspaces=("Choice", ([1, 2],), {"default": 2}), self_weight=("Float", (0.5, 1.0), {"default": 0.9})
    )
    # The mixture of all stages' outputs needs stages of one shape.
    return {"layer_stitch": False, **options}


def _nddr(family: Family, tasks: Tasks, depths: tuple[int, int], count: int) -> dict[str, Any]:
    return family.options(self_weight=("Float", (0.5, 1.0), {"default": 0.9}))


def _mtan(family: Family, tasks: Tasks, depths: tuple[int, int], count: int) -> dict[str, Any]:
    return family.options(batch_normalization=("Boolean", (), {"default": True}))


def _experts(*kinds: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    def space(family: Family, tasks: Tasks, depths: tuple[int, int], count: int) -> dict[str, Any]:
        least, most = depths
        most = min(most, count - 1)
        if least > most:
            raise ValueError(
                f"`depths` should leave '{family.name}' at least one of the {count} stages for its experts. "
                f"Received: depths={depths}"
            )
        below = family.options(shared_depth=("Int", (least, most)))
        return {**below, **family.options(**{name: option for kind in kinds for name, option in kind.items()})}

    return space


_EXPERTS = {"experts": ("Int", (2, 8), {"step": 2, "default": 4})}
_OWN_EXPERTS = {"shared_experts": ("Int", (1, 3)), "task_experts": ("Int", (1, 3))}
_GATES = {
    "gate_temperature": ("Float", (0.5, 4.0), {"sampling": "log", "default": 1.0}),
    "gate_dropout": ("Float", (0.0, 0.4), {"step": 0.1}),
}
_SELECTORS = {"k": ("Int", (1, 2)), "entropy_strength": ("Float", (1e-4, 1e-1), {"sampling": "log"})}

# A function of the family, the tasks, the least and most shared depth, and the number of stages.
FAMILIES = {
    "hard_sharing": _hard_sharing,
    "branched_sharing": _branched_sharing,
    "soft_sharing": _soft_sharing,
    "cross_stitch": _cross_stitch,
    "sluice": _sluice,
    "nddr": _nddr,
    "mtan": _mtan,
    "mmoe": _experts(_EXPERTS, _GATES),
    "omoe": _experts(_EXPERTS, _GATES),
    "cgc": _experts(_OWN_EXPERTS, _GATES),
    "ple": _experts(_OWN_EXPERTS, _GATES),
    "dselect_k": _experts(_EXPERTS, _SELECTORS),
}
