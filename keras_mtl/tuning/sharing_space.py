"""The search space of architectures: what to share, and how much."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from keras_mtl import models
from keras_mtl._checks import as_list, is_integer
from keras_mtl._types import Heads, Stages, Tasks
from keras_mtl.models._arguments import check_task_names
from keras_mtl.tuning._families import FAMILIES, Family

if TYPE_CHECKING:
    import keras_tuner

    from keras_mtl.models.multi_task_model import MultiTaskModel


@dataclasses.dataclass(frozen=True)
class SharingChoice:
    """One point of `sharing_space`: a builder, its options, and the heads.

    Args:
        family: String. Name of the builder.
        options: Dict of the builder's options.
        head_depth: Integer. Hidden layers before each head's own.
        head_width: Integer. Units of each; `None` without hidden layers.
    """

    family: str
    options: dict
    head_depth: int = 0
    head_width: int | None = None

    def build(self, inputs: keras.KerasTensor, stages: Stages, heads: Heads, **options: Any) -> MultiTaskModel:
        """Builds the model.

        Args:
            inputs: As builders take them.
            stages: As builders take them; fresh layers.
            heads: Dict from task to a Keras layer or a list of layers, fresh.
            **options: Further options of the builder.

        Returns:
            A `keras_mtl.MultiTaskModel`, not compiled.
        """
        heads = {task: [*self._hidden(), *as_list(h)] for task, h in heads.items()}
        return getattr(models, self.family)(inputs, stages, heads, **{**self.options, **options})

    def _hidden(self) -> list[keras.Layer]:
        names = [f"hidden_{i + 1}" for i in range(self.head_depth)]
        return [layers.Dense(self.head_width, activation="relu", name=name) for name in names]


def sharing_space(
    hp: keras_tuner.HyperParameters,
    stages: Stages | int,
    heads: Heads | Tasks,
    *,
    families: str | Collection[str] = ("hard_sharing",),
    depths: tuple[int, int] | None = None,
    head_depths: tuple[int, int] = (0, 0),
    head_widths: Collection[int] = (16, 32, 64),
    fixed: Mapping[str, Mapping[str, Any]] | None = None,
) -> SharingChoice:
    """Search space of how tasks share: the builder and its options.

    Every hyperparameter of every family is declared at once, under the
    condition that its family is chosen, whatever the values are now. So a tuner
    knows the whole space before its first trial. Names are `"family"` (where
    there are several), `"<family>/<option>"`, `"head_depth"` and
    `"head_width"`.

    For `branched_sharing` with tasks a, b, c the space is
    `"branched_sharing/depth_b"`, `"branched_sharing/depth_c"` and
    `"branched_sharing/beside_c"`: each task but the first goes along with one
    of those before it for the first `depth` stages. Every choice is a valid
    tree, and every tree with shared stages at its root has a choice; some
    trees have two.

    Args:
        hp: `keras_tuner.HyperParameters`.
        stages: List of stages, or their number.
        heads: Dict from task to head, or a list of tasks.
        families: Collection of builders' names: `"hard_sharing"`,
            `"branched_sharing"`, `"soft_sharing"`, `"cross_stitch"`,
            `"sluice"`, `"nddr"`, `"mtan"`, `"mmoe"`, `"omoe"`, `"cgc"`,
            `"ple"`, `"dselect_k"`. Defaults to `("hard_sharing",)`.
        depths: Tuple `(least, most)`. How many stages are shared, in families
            that have a `shared_depth` or branches; experts keep at least one
            stage. Defaults to `None`: from 0 to all.
        head_depths: Tuple `(least, most)`. Hidden layers before each head.
            Defaults to `(0, 0)`: none, not searched.
        head_widths: Collection of integers. Their units. Defaults to
            `(16, 32, 64)`.
        fixed: Dict from family to a dict of options that are given, not
            searched, such as `{"mmoe": {"gate": [keras.layers.Flatten()]}}`.
            Defaults to `None`.

    Returns:
        A `keras_mtl.tuning.SharingChoice`.

    Raises:
        ValueError: If there are fewer than two tasks, a family is unknown, a
            depth is beyond the stages, or widths are no positive integers.

    Example:

    >>> import keras_tuner
    >>> hp = keras_tuner.HyperParameters()
    >>> keras_mtl.tuning.sharing_space(hp, stages=3, heads=["a", "b"], families=["hard_sharing", "mmoe"])
    SharingChoice(family='hard_sharing', options={'shared_depth': 3}, head_depth=0, head_width=None)
    >>> [p.name for p in hp.space]
    ['family', 'hard_sharing/shared_depth', 'mmoe/shared_depth', 'mmoe/experts', 'mmoe/gate_temperature', \
'mmoe/gate_dropout']
    """
    count = int(stages) if is_integer(stages) else len(stages)  # type: ignore[arg-type]
    tasks = check_task_names(heads)
    if len(tasks) < 2:
        raise ValueError(f"`heads` should have at least two tasks, or there is nothing to share. Received: {tasks}")
    families = _check_families(families)
    fixed = fixed or {}
    if unknown := [name for name in fixed if name not in families]:
        raise ValueError(f"The keys of `fixed` should be among `families`, {families}. Received: {unknown}")
    depths = check_range(depths or (0, count), "depths", 0, count, f"the number of stages, {count}")
    head_depths = check_range(head_depths, "head_depths", 0)
    chosen = hp.Choice("family", families) if len(families) > 1 else families[0]
    found = {}
    for name in families:
        family = Family(hp, name, alone=len(families) == 1, given=fixed.get(name, {}))
        found[name] = FAMILIES[name](family, tasks, depths, count)
    head_depth, head_width = _head_space(hp, head_depths, head_widths)
    return SharingChoice(chosen, {**found[chosen], **fixed.get(chosen, {})}, head_depth, head_width)


def check_range(
    given: Sequence[int], argument: str, lowest: int, highest: int | None = None, what: str = ""
) -> tuple[int, int]:
    """Raises where `given` is not a pair of integers in order and in bounds."""
    integers = isinstance(given, (list, tuple)) and all(is_integer(n) for n in given)
    if not integers or len(given) != 2 or not lowest <= given[0] <= given[1]:
        raise ValueError(
            f"`{argument}` should be a pair of integers, the least and the most, of at least {lowest}. "
            f"Received: {argument}={given!r}"
        )
    if highest is not None and given[1] > highest:
        raise ValueError(f"`{argument}` should not go beyond {what}. Received: {argument}={given!r}")
    return tuple(int(n) for n in given)  # type: ignore[return-value]


def _check_families(families: str | Collection[str]) -> list[str]:
    families = [families] if isinstance(families, str) else list(families)
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        raise ValueError(f"`families` should name some of {list(FAMILIES)}. Received: {unknown or families}")
    return families


def _head_space(
    hp: keras_tuner.HyperParameters, depths: Sequence[int], widths: Collection[int]
) -> tuple[int, int | None]:
    widths = list(widths)
    if not widths or not all(is_integer(width) and width > 0 for width in widths):
        raise ValueError(f"`head_widths` should be positive integers. Received: head_widths={widths}")
    widths = [int(width) for width in widths]
    least, most = depths
    if most == 0:
        return 0, None
    if least == most:
        return most, hp.Choice("head_width", widths)
    depth = hp.Int("head_depth", least, most)
    with_layers = list(range(max(least, 1), most + 1))
    when = {} if least else {"parent_name": "head_depth", "parent_values": with_layers}
    return depth, hp.Choice("head_width", widths, **when)
