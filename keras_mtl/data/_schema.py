"""The schema of a mixture: names, shapes and rows of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_mtl._types import Structure, Tasks, Tensor

# Length of axes of open size in tensors without examples: enough for convolutions and pooling to have something.
EMPTY_LENGTH = 64


class Schema:
    """Names, shapes and rows of what a mixture yields.

    Tasks whose data sets have an input or a label in common belong to one
    group. The rows of a group stand one below the other; every input and label
    of the group has all of them, zeros where a data set does not give it, and
    labels have sample weights that say where they are. What belongs to a group
    that is absent is empty, or has rows of zeros that weigh nothing.

    Args:
        specs: Dict from task to the `element_spec` of its batches.
        inputs: `"shared"` or `"own"`, see `keras_mtl.data.mix`.
        absent_rows: Integer. Rows of an absent group. Defaults to `0`.
    """

    def __init__(self, specs: Mapping[str, Structure], inputs: str, absent_rows: int = 0) -> None:
        self.tasks = tuple(specs)
        self.absent_rows = absent_rows
        self._own = inputs == "own"
        self._nameless = not self._own and not any(isinstance(_parts(s, t)[0], dict) for t, s in specs.items())
        given = {task: self._named(task, spec) for task, spec in specs.items()}
        for task, parts in given.items():
            _check(task, *parts)
        self.inputs_of = {task: tuple(x) for task, (x, _, _) in given.items()}
        self.labels_of = {task: tuple(y) for task, (_, y, _) in given.items()}
        self._weights_of = {task: tuple(weight) for task, (_, _, weight) in given.items()}
        self._specs = [
            _agreeing(what, {task: parts[i] for task, parts in given.items()})
            for i, what in enumerate(("input", "label", "sample weight"))
        ]
        self._find_groups()
        for tasks in self.groups():
            self._weigh_labels(tasks, always=absent_rows > 0 and len(self.groups()) > 1)

    def groups(self) -> list[tuple[str, ...]]:
        """The groups as a list of tuples of tasks."""
        by_group = {}
        for task in self.tasks:
            by_group.setdefault(self._group_of[task], []).append(task)
        return [tuple(tasks) for tasks in by_group.values()]

    def fillers(self, rows: Mapping[str, int | None]) -> dict[Any, Any]:
        """What stands where the data sets of some tasks give nothing.

        Args:
            rows: Dict from task to the number of rows in its batch, `None`
                where it varies. The other tasks are absent.

        Returns:
            Dict from place to tensor, for the places whose rows are known.
        """
        found = {}
        for place, spec, task in self._places(rows):
            size = self.absent_rows if task is None else rows[task]
            if size is not None:
                found[place] = self._filler(place, spec, size)
        return found

    @tf.autograph.experimental.do_not_convert
    def merge(self, batches: Mapping[str, Structure], fillers: Mapping[Any, Any]) -> tuple[Any, ...]:
        """Makes one batch of the batches of some tasks.

        Where each group has one task, this only puts tensors in their places,
        and costs nothing in a `tf.data` pipeline.

        Args:
            batches: Dict from task to what its data set yields. The other
                tasks are absent; all may be.
            fillers: What `fillers` returned.

        Returns:
            Tuple `(x, y)` or `(x, y, sample_weight)`, always with the same
            names.
        """
        given = {task: self._named(task, batch) for task, batch in batches.items()}
        merged = tuple({} for _ in self._specs)
        for index, specs in enumerate(self._specs):
            for name, spec in specs.items():
                pieces = []
                for task in self._present(index, name, batches):
                    place = (index, name, task)
                    if task is not None and name in given[task][index]:
                        pieces.append(given[task][index][name])
                    elif place in fillers:
                        pieces.append(fillers[place])
                    else:
                        rows = tf.shape(next(iter(given[task][0].values())))[0]  # type: ignore[index]
                        pieces.append(self._filler(place, spec, rows))  # type: ignore[arg-type]
                merged[index][name] = _stacked(pieces, spec)
        x, y, weight = merged
        x = x[None] if self._nameless else x
        return (x, y, weight) if weight else (x, y)

    def _present(self, index: int, name: str | None, tasks: Tasks) -> list[str | None]:
        """Tasks of a group, in the order of their rows; `[None]` where the group is absent."""
        return [t for t in tasks if self._group_of[t] == self._groups_of[index][name]] or [None]

    def _places(self, tasks: Tasks) -> Iterator[tuple[Any, tf.TypeSpec, str | None]]:
        """Places that the tasks' data sets leave empty: `(index, name, task)`, its spec and the task."""
        names_of = (self.inputs_of, self.labels_of, self._weights_of)
        for index, specs in enumerate(self._specs):
            for name, spec in specs.items():
                for task in self._present(index, name, tasks):
                    if task is None or name not in names_of[index][task]:
                        yield (index, name, task), spec, task

    def _filler(self, place: tuple[int, str, str | None], spec: tf.TypeSpec, rows: int | None) -> Tensor:
        index, name, task = place
        # A label without a weight counts, a label that is not there does not.
        return _filled(spec, rows, 1 if index == 2 and name in self.labels_of.get(task, ()) else 0)  # type: ignore[arg-type]

    def _named(self, task: str, element: Structure) -> tuple[Any, Any, Any]:
        """Dicts of a task's inputs, labels and sample weights, by their names in the mixture."""
        x, y, weight = _parts(element, task)
        if self._own:
            x = {f"{task}_{name}": value for name, value in x.items()} if isinstance(x, dict) else {f"{task}_input": x}
        elif self._nameless:
            x = {None: x}
        elif not isinstance(x, dict):
            raise ValueError(
                "Inputs should have names in all data sets or in none. Received: no names in the data set of task "
                f"'{task}', which should give a dict from the name of a model's input to a tensor"
            )
        y = y if isinstance(y, dict) else {task: y}
        if not isinstance(weight, dict):
            weight = {} if weight is None else dict.fromkeys(y, weight)
        return x, y, weight

    def _find_groups(self) -> None:
        group_of = {task: index for index, task in enumerate(self.tasks)}
        for names_of in (self.inputs_of, self.labels_of):
            owner = {}
            for task, names in names_of.items():
                for name in names:
                    old, new = group_of[task], group_of[owner.setdefault(name, task)]
                    group_of = {t: new if g == old else g for t, g in group_of.items()}
        of_inputs = {name: group_of[task] for task, names in self.inputs_of.items() for name in names}
        of_labels = {name: group_of[task] for task, names in self.labels_of.items() for name in names}
        self._group_of = group_of
        self._groups_of = [of_inputs, of_labels, of_labels]

    def _weigh_labels(self, tasks: Tasks, always: bool) -> None:
        """Gives weights to labels of a group that some of its data sets lack, or to all."""
        _, labels, weights = self._specs
        for name in dict.fromkeys(name for task in tasks for name in self.labels_of[task]):
            lacking = [task for task in tasks if name not in self.labels_of[task]]
            if lacking and not labels[name].shape[1:].is_fully_defined():
                raise ValueError(
                    f"Labels '{name}' should have a fixed shape, since they are filled with zeros where examples of "
                    f"task '{lacking[0]}' stand in one batch with those of others. Received: shape "
                    f"{labels[name].shape}. Pad them, or give the tasks inputs of their own: inputs='own'"
                )
            if lacking or always:
                weights.setdefault(name, tf.TensorSpec((None,), "float32"))


def _parts(element: Structure, task: str) -> tuple[Any, Any, Any]:
    if not isinstance(element, (tuple, list)) or not 2 <= len(element) <= 3:
        raise ValueError(
            f"The data set of task '{task}' should have elements (x, y) or (x, y, sample_weight). Received: {element!r}"
        )
    return (*element, None)[:3]


def _check(task: str, x: Structure, y: Structure, weight: Structure) -> None:
    for what, part in (("inputs", x), ("labels", y), ("sample weights", weight)):
        for name, spec in part.items():
            if not isinstance(spec, tf.TensorSpec) or not spec.shape.rank:
                raise ValueError(
                    f"The {what} in the data set of task '{task}' should be tensors of known rank, or a dict of them. "
                    f"Received: {spec!r}" + ("" if name is None else f" for '{name}'")
                )
    if not x or not y:
        raise ValueError(f"The data set of task '{task}' should have inputs and labels. Received: x={x}, y={y}")
    if task not in y:
        raise ValueError(f"The labels in the data set of task '{task}' should be its own. Received: {list(y)}")
    if not set(weight) <= set(y):
        raise ValueError(
            f"The sample weights in the data set of task '{task}' should be of its labels, {list(y)}. "
            f"Received: {list(weight)}"
        )


def _agreeing(what: str, by_task: Mapping[str, Mapping[str | None, tf.TypeSpec]]) -> dict[str | None, tf.TypeSpec]:
    """One spec for each name; an axis that is open in one data set is open in all."""
    found, first, fixed = {}, {}, {}
    for task, specs in by_task.items():
        for name, spec in specs.items():
            before = found.setdefault(name, spec)
            first.setdefault(name, task)
            called = what if name is None else f"{what} '{name}'"
            if before.dtype != spec.dtype or before.shape.rank != spec.shape.rank:
                raise ValueError(
                    f"The {called} should be alike in all data sets that have it. Received: "
                    f"{before.dtype.name} of shape {before.shape} for task '{first[name]}', {spec.dtype.name} of shape "
                    f"{spec.shape} for task '{task}'"
                )
            for axis, size in enumerate(spec.shape[1:]):
                if size is None:
                    continue
                other, shape = fixed.setdefault((name, axis), (task, spec.shape))
                if shape[axis + 1] != size:
                    own = ", or give the tasks inputs of their own: inputs='own'" if what == "input" else ""
                    raise ValueError(
                        f"The {called} should have one width in all data sets that have it, since only axes of open "
                        f"length are padded. Received: shape {shape} for task '{other}', {spec.shape} for task "
                        f"'{task}'. Bring them to one width{own}"
                    )
            common = [a if a == b else None for a, b in zip(before.shape[1:], spec.shape[1:], strict=True)]
            found[name] = tf.TensorSpec([None, *common], spec.dtype)
    return found


def _filled(spec: tf.TypeSpec, rows: int | None, value: float) -> Tensor:
    shape = [rows, *(EMPTY_LENGTH if size is None else size for size in spec.shape[1:])]
    return tf.ones(shape, spec.dtype) if value else tf.zeros(shape, spec.dtype)


def _stacked(pieces: Sequence[Tensor], spec: tf.TypeSpec) -> Tensor:
    """Rows one below the other; shorter ones get zeros behind where the spec leaves the length open."""
    if len(pieces) > 1 and not spec.shape[1:].is_fully_defined():
        shapes = [tf.shape(piece) for piece in pieces]
        longest = tf.reduce_max(tf.stack(shapes), axis=0)
        missing = [tf.concat([[0], (longest - shape)[1:]], axis=0) for shape in shapes]
        pieces = [
            tf.pad(piece, tf.stack([tf.zeros_like(behind), behind], axis=1))
            for piece, behind in zip(pieces, missing, strict=True)
        ]
    return pieces[0] if len(pieces) == 1 else tf.concat(pieces, axis=0)
