"""One ordinary training run, monitored: update sizes, conflicts of gradients, affinities."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl.analysis.advice._arrays import size_of, take
from keras_mtl.analysis.advice._candidates import AGREE, CONFLICT, LOPSIDED, pairs_of
from keras_mtl.analysis.advice._look import Finding
from keras_mtl.analysis.representation_similarity import representation_similarity
from keras_mtl.callbacks.conflict_monitor import ConflictMonitor
from keras_mtl.callbacks.task_affinity import TaskAffinity
from keras_mtl.metrics._affinity import Affinity
from keras_mtl.metrics.directions import higher_is_better
from keras_mtl.models._stages import stage_label

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Problem
    from keras_mtl.analysis.advice._trial import Trial
    from keras_mtl.models.multi_task_model import MultiTaskModel

_MEASUREMENTS = 30  # of a whole training
# The part of the training by which gradients are judged: before it heads have not settled with which sign they take a
# feature, after it most is learned and gradients are those of the noise.
_JUDGED = (0.1, 0.6)
_PROBE = 256  # examples
_ORDERS, _AT_ONCE = 10, 1024
_STILL = 2.0  # percent in the last part of a training, from which on it is not over
_LAST_PART = 0.2
_FEWEST = 100  # labels: from fewer a task that is learned a little cannot be told from one that is not
_COMPARED = 300  # examples, whose number enters squared


class Watched:
    """What was measured in one training of the fully shared model.

    Args:
        content: JSON-compatible dict, as `Watch.content` returns it.
        columns: Same, as `WatchColumns.content` returns it. Defaults to
            `None`.
    """

    def __init__(self, content: Mapping[str, Any], columns: dict | None = None) -> None:
        self.content = content
        self.tasks = tuple(content["tasks"])
        self.layers = content["layers"]
        self.cosines = np.array(content["cosine"])
        self.rates = np.array(content["conflict_rate"])
        self.norms = dict(zip(self.tasks, content["grad_norm"], strict=True))
        self.shares = dict(zip(self.tasks, content["grad_share"], strict=True))
        self.affinity = Affinity.from_dict(content["affinity"])
        self.losses_are_positive = content["losses_are_positive"]
        learned = {*content.get("learned", self.tasks), *(columns or {}).get("learned", self.tasks)}
        self.unlearned = [task for task in self.tasks if task not in learned]
        similarity = (columns or {}).get("similarity")
        self.similarity = None if similarity is None else Affinity.from_dict(similarity)

    def pairs(self) -> list[tuple[str, str, float, float]]:
        """Tuples of two tasks, the cosine of their gradients and how often they conflict."""
        mean, rate = np.array(self.content["total_cosine"]), self.rates
        return [(self.tasks[i], self.tasks[j], float(mean[i, j]), float(rate[i, j])) for i, j in pairs_of(self.tasks)]

    def cosine_of_stages(self, depth: int) -> list[float | None]:
        """Mean cosine over pairs in the first stages and in those after; `None` where nothing is trained."""
        stages = self.content["stage_of_layer"]
        rows, columns = zip(*pairs_of(self.tasks), strict=True)
        means = []
        for part in ([s is not None and s < depth for s in stages], [s is not None and s >= depth for s in stages]):
            chosen = self.cosines[np.array(part, bool)]
            means.append(float(chosen[:, rows, columns].mean()) if len(chosen) else None)
        return means

    def findings(self, counted: Collection[str] | None = None) -> list[Finding]:
        """What was seen, in sentences.

        Args:
            counted: The tasks that count. Defaults to all.

        Returns:
            List of `Finding`.
        """
        found = []
        if len(self.unlearned) == len(counted or self.tasks):
            text = (
                "Nothing is learned of any task, alone or shared: from the inputs of other examples they are predicted "
                "as well. More epochs or examples, another learning rate or other stages may change that."
            )
            found.append(Finding("nothing learned", text))
        for task in self.unlearned if not found else ():
            text = (
                f"Nothing is learned of '{task}', alone or shared: from the inputs of other examples it is predicted "
                "as well. It does not count, since all that it can gain is to learn less of its noise."
            )
            found.append(Finding("nothing learned", text, (task,)))
        starved = min(self.shares, key=lambda task: self.shares[task])
        fed = max(self.shares, key=lambda task: self.shares[task])
        low, high = self.shares[starved], self.shares[fed]
        listed = ", ".join(f"'{task}' {100 * share:.2g} %" for task, share in self.shares.items())
        if high >= LOPSIDED * low:
            text = f"Task '{starved}' is starved: of the trunk's update, {listed}."
            found.append(Finding("starved", text, (starved,), {"shares": self.shares}))
        else:
            found.append(Finding("update", f"Of the trunk's update, {listed}.", (), {"shares": self.shares}))
        pairs = self.pairs()
        one, other, cosine, rate = min(pairs, key=lambda pair: pair[2])
        mean = float(np.mean([pair[2] for pair in pairs]))
        if rate >= CONFLICT:
            kind, what = "conflict", f"conflict in {100 * rate:.0f} % of the measurements"
        else:
            kind, what = (
                ("agreement", "agree") if cosine >= AGREE else ("orthogonal", "have little to do with each other")
            )
        text = f"Gradients of '{one}' and '{other}' {what} (cosine {cosine:+.2f}; mean of all pairs {mean:+.2f})."
        found.append(Finding(kind, text, (one, other), {"cosine": cosine, "rate": rate}))
        values = self.affinity.values.copy()
        np.fill_diagonal(values, np.nan)
        if np.isfinite(values).any():
            (i, j), (k, m) = (np.unravel_index(np.nanargmax(sign * values), values.shape) for sign in (1, -1))
            text = (
                f"A step for '{self.tasks[i]}' takes {100 * values[i, j]:+.2g} % off the loss of '{self.tasks[j]}', "
                f"the most; one for '{self.tasks[k]}' takes {100 * values[k, m]:+.2g} % off that of '{self.tasks[m]}', "
                "the least (affinity by looking ahead)."
            )
            found.append(Finding("affinity", text, (), {}))
        return found


def learned_tasks(problem: Problem, model: MultiTaskModel) -> list[str]:
    """Tasks that a model predicts better from their own inputs than from those of other examples.

    Validation examples are given inputs in other orders; better is by two
    standard deviations over the orders. Tasks that do not count are among them,
    and those that have too few labels there to tell.

    Args:
        problem: `Problem`.
        model: A trained model.

    Returns:
        List of tasks.
    """
    told = [task for task in problem.metrics if problem.known(problem.validation[1], task).sum() >= _FEWEST]
    if not told:
        return list(model.tasks)
    x, *labels = problem.arrays(problem.validation)
    logs = {task: f"{task}_{problem.metrics[task]}" for task in told}
    rng = np.random.default_rng(2)

    def values(rows: np.ndarray) -> dict[str, float]:
        inputs = keras.tree.map_structure(lambda array: array[rows], x)
        arguments = dict(zip(("y", "sample_weight"), labels, strict=False))
        found = model.evaluate(inputs, **arguments, batch_size=_AT_ONCE, return_dict=True, verbose=0)
        return {log: float(found[log]) for log in logs.values()}  # type: ignore[call-overload]

    size = size_of(problem.validation)
    own, others = values(np.arange(size)), [values(rng.permutation(size)) for _ in range(_ORDERS)]
    found = [task for task in model.tasks if task not in logs]
    for task, log in logs.items():
        sign = 1 if higher_is_better(problem.metrics[task], problem.directions) else -1
        gains = [sign * (own[log] - other[log]) for other in others]
        if not np.mean(gains) <= 2 * np.std(gains, ddof=1):  # NaN is nothing that can be told
            found.append(task)
    return found


class WatchColumns:
    """What single-task columns learn: how alike the features are, tasks by tasks.

    Args:
        problem: `Problem`.
        epochs: Not read.
    """

    callbacks = ()

    def __init__(self, problem: Problem, epochs: int) -> None:
        rows = np.random.default_rng(1).permutation(size_of(problem.train))[:_COMPARED]
        self._problem, self._x = problem, take(problem.train[:1], np.sort(rows))[0]

    def content(self, curves: object, model: MultiTaskModel) -> dict[str, Any]:
        """The similarity, a mean over the stages, and what is learned, as JSON-compatible values.

        Args:
            curves: Not read.
            model: The trained columns.
        """
        try:
            by_stage = representation_similarity(model, self._x).values()
        except ValueError:  # features that are the same for all examples
            return {"similarity": None, "learned": learned_tasks(self._problem, model)}
        mean = np.mean([similarity.values for similarity in by_stage], axis=0)
        similarity = Affinity(model.tasks, mean, "similarity of features, mean over stages").to_dict()
        return {"similarity": similarity, "learned": learned_tasks(self._problem, model)}


class Watch:
    """The monitors of that training.

    Args:
        problem: `Problem`.
        epochs: Integer. Epochs of the training.
    """

    def __init__(self, problem: Problem, epochs: int) -> None:
        data = problem.train
        steps = -(-size_of(data) // problem.batch_size)
        every = max(1, steps * epochs // _MEASUREMENTS)
        rows = np.random.default_rng(1).permutation(size_of(data))[:_PROBE]
        probe = take(data, np.sort(rows))
        self._problem = problem
        x, y, weight = (*probe, None)[:3]
        self._monitor = ConflictMonitor(x, y, weight, every=every)
        batch = min(_PROBE, size_of(data))
        x, y, weight = (*data, None)[:3]
        self._affinity = TaskAffinity(x, y, weight, batch_size=batch, every=every)
        self.callbacks = [self._monitor, self._affinity]

    def content(self, curves: Mapping[str, Sequence[float]], model: keras.Model) -> dict[str, Any]:
        """All that was measured, as JSON-compatible values.

        Args:
            curves: Dict from log to a list by epoch.
            model: The trained model.
        """
        monitor, tasks = self._monitor, self._monitor.tasks
        history = _judged(monitor.history)
        cosines = np.mean([entry["cosine"] for entry in history], axis=0)
        total = np.mean([entry["total_cosine"] for entry in history], axis=0)
        rates = np.mean([entry["total_cosine"] < 0 for entry in history], axis=0)
        norms = np.mean([entry["total_grad_norm"] for entry in history], axis=0)
        weights = np.array([np.mean(curves.get(f"{task}_weight", [1.0])) for task in tasks])
        pulls = norms * weights
        losses = [value for task in tasks for value in curves.get(f"{task}_loss", ())]
        return {
            "tasks": list(tasks),
            "layers": list(monitor.layers),
            "stage_of_layer": self._stages(monitor.layers),
            "cosine": cosines.tolist(),
            "total_cosine": total.tolist(),
            "conflict_rate": rates.tolist(),
            "grad_norm": norms.tolist(),
            "grad_share": (pulls / max(pulls.sum(), 1e-30)).tolist(),
            "affinity": self._affinities().to_dict(),
            "losses_are_positive": bool(losses) and min(losses) > 0,
            "measurements": len(history),
            "learned": learned_tasks(self._problem, model),
        }

    def _affinities(self) -> Affinity:
        """Means over that part of the measurements, where both tasks have labels."""
        values = np.array([entry["affinity"] for entry in _judged(self._affinity.history)])
        known = np.isfinite(values)
        counts = known.sum(axis=0)
        sums = np.where(known, values, 0.0).sum(axis=0)
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        return Affinity(self._affinity.tasks, means, "look-ahead affinity")

    def _stages(self, layers: Sequence[str]) -> list[int | None]:
        """The place of the stage that each layer of the trunk is of; `None` for others."""
        names = [f"shared_{stage_label(stack, place)}" for place, stack in enumerate(self._problem.stages)]
        return [names.index(name) if name in names else None for name in layers]


def still_learning(problem: Problem, columns: Trial) -> list[Finding]:
    """Whether single-task columns still gain at the end of their training: a longer one may give another answer.

    Args:
        problem: `Problem`.
        columns: `Trial` of the single-task columns, up to the last epoch.

    Returns:
        List of a `Finding`, or an empty one.
    """
    early = [values for values in columns.values[: math.floor((1 - _LAST_PART) * columns.epochs)] if values]
    if not early:
        return []
    gain = problem.gain(problem.score(columns.values[-1], early[-1]))
    if gain < _STILL:
        return []
    text = (
        f"Single-task columns still gained {gain:.2g} % on validation examples in the last fifth of their "
        f"{columns.epochs} epochs: longer trainings may give another answer. See `epochs`."
    )
    return [Finding("still learning", text, numbers={"gain": gain})]


def _judged(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    low, high = (round(share * len(history)) for share in _JUDGED)
    return history[low : max(high, low + 1)] or history
