"""Relations between tasks that labels alone show, before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from keras_mtl._checks import check_boolean
from keras_mtl._tables import table_text
from keras_mtl._types import Structure
from keras_mtl.metrics._affinity import Affinity

KINDS = ("number", "class", "vector")


class TaskRelations:
    """How the labels of tasks go together.

    Attributes:
        tasks: Tuple of K names.
        kinds: Dict from task to `"number"`, `"class"` or `"vector"`.
        association: `Affinity`. From 0, no association, to 1, one tells the
            other; NaN where too few examples have both labels.
        correlation: `Affinity`. Signed correlation, for pairs of numbers and
            of two classes; NaN for others.
        overlap: Array of shape `(K, K)`. Examples that have both labels.
        shared: Array of shape `(K, K)`. Those as a part of the examples that
            have either label.
    """

    def __init__(
        self,
        tasks: tuple[str, ...],
        kinds: Mapping[str, str],
        association: Affinity,
        correlation: Affinity,
        overlap: np.ndarray,
        shared: np.ndarray,
    ) -> None:
        self.tasks = tasks
        self.kinds = kinds
        self.association = association
        self.correlation = correlation
        self.overlap = overlap
        self.shared = shared

    def __str__(self) -> str:
        rows = []
        for i, task in enumerate(self.tasks):
            cells = []
            for j in range(len(self.tasks)):
                signed, plain = self.correlation.values[i, j], self.association.values[i, j]
                text = "–" if np.isnan(plain) else f"{plain:.2f}" if np.isnan(signed) else f"{signed:+.2f}"
                cells.append("" if i == j else f"{text} ({self.shared[i, j]:.0%})" if self.shared.min() < 1 else text)
            rows.append([task, self.kinds[task], f"{self.overlap[i, i]:,}", *cells])
        table = table_text(["task", "kind", "labels", *self.tasks], rows, left=["task", "kind"])
        note = "Association from 0 to 1; with a sign, correlation."
        return table + note + (" In brackets: labelled in common." if self.shared.min() < 1 else "")


def task_relations(
    y: Mapping[str, npt.ArrayLike],
    *,
    missing: float | str | Mapping[str, float | str] | None = "nan",
    kinds: Mapping[str, str] | None = None,
    adjust: bool = True,
    max_classes: int = 50,
) -> TaskRelations:
    """Tells from labels alone which tasks go together.

    Two tasks' association is measured on the examples that have both labels:
    each task's labels become columns (a number is one column, a class one for
    each class less one, a vector its entries), and with the canonical
    correlations `rho_1, ..., rho_m` of the two sets of columns,

    `association = sqrt((rho_1^2 + ... + rho_m^2) / m)`

    For two numbers this is the absolute value of Pearson's correlation, for a
    class and a number the correlation ratio, for two classes Cramer's V.

    What labels share says little about what training shares: features can be
    common to tasks whose labels are independent. It costs nothing, and it
    finds tasks that are near copies.

    Args:
        y: Dict from task to labels of N examples: integers, booleans or
            strings of shape `(N,)` or `(N, 1)` for classes, floats for numbers
            (or for two classes, if all are 0 or 1), shape `(N, D)` for vectors.
        missing: `"nan"`, a number, or a dict from task to one of them: the
            label that means "missing". A vector lacks its label where any
            entry is missing. Defaults to `"nan"`.
        kinds: Dict from task to `"number"`, `"class"` or `"vector"`, where the
            labels do not tell. Defaults to `None`.
        adjust: Boolean. Whether to take off what chance alone makes of few
            examples and many classes, as the adjusted R² does. Defaults to
            `True`.
        max_classes: Integer. Labels with more classes are refused, since they
            are more likely numbers. Defaults to `50`.

    Returns:
        A `TaskRelations`.

    Raises:
        ValueError: If the tasks have different numbers of examples, or a label
            has a kind that it cannot have.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> price = rng.normal(size=200)
    >>> y = {"price": price, "dear": price > 1, "color": rng.choice(["red", "blue"], 200)}
    >>> relations = keras_mtl.analysis.task_relations(y)
    >>> relations.kinds
    {'price': 'number', 'dear': 'class', 'color': 'class'}
    >>> relations.association.of("price", "dear") > 0.5 > relations.association.of("price", "color")
    True

    References:

    - H. Hotelling, "Relations between two sets of variates", Biometrika 28, 1936.
    - H. Cramér, "Mathematical Methods of Statistics", Princeton University Press, 1946.
    """
    check_boolean(adjust, "adjust")
    if not isinstance(y, dict) or len(y) < 2:
        raise ValueError(f"`y` should be a dict of the labels of two tasks or more. Received: {type(y).__name__}")
    arrays = {task: np.asarray(labels) for task, labels in y.items()}
    sizes = {task: len(labels) if labels.ndim else 0 for task, labels in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            "Every task should have a label, or a missing one, for every example. Received: numbers of examples "
            f"{sizes}"
        )
    for argument, given in (("missing", missing), ("kinds", kinds)):
        unknown = [task for task in given if task not in y] if isinstance(given, dict) else []
        if unknown:
            raise ValueError(f"The keys of `{argument}` should be tasks: {list(y)}. Received: {unknown}")
    known, columns, found = {}, {}, {}
    for task, labels in arrays.items():
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        known[task] = _known(labels, missing.get(task) if isinstance(missing, dict) else missing)
        found[task] = _kind(task, labels[known[task]], (kinds or {}).get(task))
        columns[task] = _columns(task, labels, known[task], found[task], max_classes)
    return _relate(list(y), known, columns, found, adjust)


def _known(labels: np.ndarray, missing: Structure) -> Structure:
    if missing is None:
        return np.ones(len(labels), bool)
    if missing == "nan" or (isinstance(missing, float) and np.isnan(missing)):
        known = ~np.isnan(labels) if labels.dtype.kind == "f" else np.ones(labels.shape, bool)
    else:
        known = labels != missing
    return known.reshape(len(labels), -1).all(axis=1)


def _kind(task: str, labels: np.ndarray, given: str | None) -> str:
    if given is not None:
        if given not in KINDS or (given == "vector") != (labels.ndim > 1):
            raise ValueError(
                f"The kind of task '{task}' should be one of {KINDS} that fits labels of shape {labels.shape}. "
                f"Received: {given!r}"
            )
        return given
    if labels.ndim > 1:
        return "vector"
    if labels.dtype.kind == "f" and not np.isin(labels, (0.0, 1.0)).all():
        return "number"
    return "class"


def _columns(task: str, labels: np.ndarray, known: np.ndarray, kind: str, max_classes: int) -> np.ndarray:
    """The labels as columns, of shape `(N, D)`; 0 where they are missing."""
    if kind == "class":
        classes, places = np.unique(labels[known], return_inverse=True)
        if len(classes) > max_classes:
            raise ValueError(
                f"Task '{task}' should have at most {max_classes} classes. Received: {len(classes)}. "
                f"If its labels are numbers, say so: kinds={{'{task}': 'number'}}"
            )
        columns = np.zeros((len(labels), max(len(classes) - 1, 1)))
        columns[known] = np.eye(len(classes))[places, 1:] if len(classes) > 1 else 0.0
        return columns
    values = labels.reshape(len(labels), -1)
    if values.dtype.kind not in "fiub" or not np.isfinite(values[known]).all():
        raise ValueError(f"The labels of task '{task}' should be finite numbers. Received: dtype {values.dtype}")
    return np.where(known[:, None], values, 0.0).astype("float64")


def _relate(
    tasks: Sequence[str],
    known: Mapping[str, np.ndarray],
    columns: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    adjust: bool,
) -> TaskRelations:
    count = len(tasks)
    association, correlation = np.full((2, count, count), np.nan)
    overlap, shared = np.zeros((count, count), int), np.zeros((count, count))
    for i, a in enumerate(tasks):
        for j, b in enumerate(tasks[: i + 1]):
            both = known[a] & known[b]
            overlap[i, j] = overlap[j, i] = both.sum()
            shared[i, j] = shared[j, i] = both.sum() / max((known[a] | known[b]).sum(), 1)
            first, second = columns[a][both], columns[b][both]
            association[i, j] = association[j, i] = _association(first, second, adjust)
            if first.shape[1] == second.shape[1] == 1 and both.sum() > 2 and first.std() > 0 and second.std() > 0:
                correlation[i, j] = correlation[j, i] = np.corrcoef(first[:, 0], second[:, 0])[0, 1]
    return TaskRelations(
        tuple(tasks),
        kinds,
        Affinity(tasks, association, "association of labels"),
        Affinity(tasks, correlation, "correlation of labels"),
        overlap,
        shared,
    )


def _association(first: np.ndarray, second: np.ndarray, adjust: bool) -> float:
    examples = len(first)
    if examples < 3:
        return np.nan
    bases = [_basis(part) for part in (first, second)]
    p, q = (basis.shape[1] for basis in bases)
    if not p or not q:
        return np.nan  # a label that is always the same goes with nothing
    rank = min(p, q)
    total = float(np.sum((bases[0].T @ bases[1]) ** 2))
    if not adjust:
        return np.sqrt(min(total / rank, 1.0))
    by_chance = p * q / (examples - 1)
    if by_chance >= rank:
        return np.nan  # too few examples for so many columns
    return np.sqrt(np.clip((total - by_chance) / (rank - by_chance), 0.0, 1.0))


def _basis(columns: np.ndarray) -> np.ndarray:
    """Orthonormal basis of what the centered columns span."""
    centered = columns - columns.mean(axis=0)
    scale = np.linalg.norm(centered, axis=0)
    centered = centered[:, scale > 1e-12 * max(np.abs(columns).max(initial=0.0), 1e-300)]
    if not centered.shape[1]:
        return centered
    u, s, _ = np.linalg.svd(centered / np.linalg.norm(centered, axis=0), full_matrices=False)
    return u[:, s > 1e-10 * s[0]]
