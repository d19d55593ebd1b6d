"""The Pareto front of the trials of a search."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl._files import whole_file
from keras_mtl._tables import markdown_table, table_text
from keras_mtl.analysis._fronts import beats
from keras_mtl.metrics.directions import higher_is_better
from keras_mtl.tuning._plots import plot_front
from keras_mtl.tuning.weighting_space import trained_with

if TYPE_CHECKING:
    import keras_tuner

COSTS = ("parameters", "step_ms")


def pareto_front(
    tuner: keras_tuner.Tuner,
    metrics: Mapping[str, str | Sequence[str]] | None = None,
    *,
    costs: Collection[str] = ("parameters",),
    directions: Mapping[str, str] | None = None,
    prefix: str = "val_",
) -> ParetoFront:
    """The trials that no other trial beats in everything.

    A trial is on the front where no other one is at least as good in every
    task's metric and in the costs, and better in one of them. Trials that
    failed are left out.

    Args:
        tuner: The keras-tuner tuner after its search, or made anew for the
            same directory.
        metrics: Dict from task to a metric or a list of them, named as in the
            logs after the task. Defaults to `None`: those of the tuner's
            `keras_mtl.tuning.objective`.
        costs: Collection of `"parameters"` and `"step_ms"`: what counts
            besides. Times are noisy, so they are shown, and count only where
            they are named. Defaults to `("parameters",)`.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell. Defaults to `None`.
        prefix: String. What the logs' names begin with. Defaults to `"val_"`.

    Returns:
        A `ParetoFront`.

    Raises:
        ValueError: If no metrics are given and the objective has none, a cost
            is unknown, a trial has no such log, or no trial was completed.
    """
    metrics = metrics or getattr(tuner.oracle.objective, "metrics", None)
    if not metrics:
        raise ValueError(
            "`metrics` should be given as a dict from task to metrics, since the tuner's objective is not one of "
            f"`keras_mtl.tuning.objective`. Received: metrics={metrics!r}"
        )
    costs = tuple(costs)
    if unknown := [cost for cost in costs if cost not in COSTS]:
        raise ValueError(f"`costs` should be some of {COSTS}. Received: {unknown}")
    metrics = {task: [m] if isinstance(m, str) else list(m) for task, m in metrics.items()}
    names = [f"{task}_{metric}" for task, of_task in metrics.items() for metric in of_task]
    signs = {
        f"{task}_{metric}": 1 if higher_is_better(metric, directions) else -1
        for task, of_task in metrics.items()
        for metric in of_task
    }
    completed = [t for _, t in sorted(tuner.oracle.trials.items()) if t.status == "COMPLETED"]
    if not completed:
        raise ValueError("`tuner` should have completed trials. Received: none")
    trials = [_trial(trial, names, prefix) for trial in completed]
    return ParetoFront(trials, signs, costs, tuner.oracle.objective)


def _trial(trial: keras_tuner.engine.trial.Trial, names: Sequence[str], prefix: str) -> dict[str, Any]:
    values = {name: _value(trial, prefix + name) for name in names}
    missing = [prefix + name for name, value in values.items() if value is None]
    if missing:
        raise ValueError(
            f"Trial {trial.trial_id} should have the logs {missing}. Received: {sorted(trial.metrics.metrics)}"
        )
    values_of = {k: v for k, v in trial.hyperparameters.values.items() if not k.startswith("tuner/")}
    return {
        "trial": trial.trial_id,
        "score": trial.score,
        **values,
        **{cost: _value(trial, cost) for cost in COSTS},
        "hyperparameters": trained_with(values_of, _value(trial, "shared_parameters") == 0),
    }


def _value(trial: keras_tuner.engine.trial.Trial, log: str) -> float | None:
    """The value of a log in the trial's best epoch, the mean over executions."""
    if not trial.metrics.exists(log):
        return None
    history = trial.metrics.get_history(log)
    best = [entry for entry in history if entry.step == trial.best_step] or history
    return float(best[-1].mean())


class ParetoFront:
    """What `pareto_front` found.

    Args:
        trials: List of dicts, one for each completed trial.
        signs: Dict from the name of a metric, such as `"left_accuracy"`, to 1
            where more is better, and -1.
        costs: Tuple of costs that count.
        objective: The tuner's objective.

    Attributes:
        trials: List of dicts: `trial`, `score`, a value for each metric,
            `parameters`, `step_ms`, `hyperparameters` and `on_front`, the best
            score first. `hyperparameters` are those that the trial was trained
            with: "equal" in place of a method that found nothing shared.
    """

    def __init__(
        self,
        trials: Sequence[dict[str, Any]],
        signs: dict[str, int],
        costs: Sequence[str],
        objective: keras_tuner.Objective,
    ) -> None:
        self.signs, self.costs, self.objective = signs, costs, objective
        kept = signs | dict.fromkeys(costs, -1)
        unknown = [cost for cost in costs if any(trial[cost] is None for trial in trials)]
        if unknown:
            raise ValueError(
                f"`costs` should be logged by every trial, as `SharingHyperModel` does. Received: no {unknown}"
            )
        points = [[sign * trial[name] for name, sign in kept.items()] for trial in trials]
        for trial, point in zip(trials, points, strict=True):
            trial["on_front"] = not any(beats(other, point) for other in points)
        self.trials = sorted(trials, key=lambda trial: trial["score"], reverse=objective.direction == "max")

    @property
    def front(self) -> list[dict[str, Any]]:
        """The trials on the front, the best score first."""
        return [trial for trial in self.trials if trial["on_front"]]

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """All trials as JSON text, written to `path` if given."""
        text = json.dumps(self.trials, indent=2)
        if path is not None:
            with whole_file(path) as part:
                part.write_text(text, encoding="utf-8")
        return text

    def to_markdown(self) -> str:
        """The front as a Markdown table."""
        return markdown_table(*self._table(self.front))

    def print(self) -> None:
        """Prints the front as a table."""
        print(self)

    def __str__(self) -> str:
        header, rows = self._table(self.front)
        table = table_text(header, rows, left=["trial", "hyperparameters"])
        return f"{table}{len(rows)} of {len(self.trials)} trials are on the front."

    def plot(self, path: str | os.PathLike) -> None:
        """Draws every trial: each pair of metrics, and each metric against the costs.

        Args:
            path: Path of a PNG, PDF or SVG file.
        """
        plot_front(self, path)

    def _table(self, trials: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
        arrows = [f"{name} {'↑' if sign > 0 else '↓'}" for name, sign in self.signs.items()]
        header = ["trial", self.objective.name, *arrows, "parameters", "ms/step", "hyperparameters"]
        rows = []
        for trial in trials:
            cells = [f"{trial[name]:.4g}" for name in self.signs]
            parameters = "" if trial["parameters"] is None else f"{trial['parameters']:,.0f}"
            step = "" if trial["step_ms"] is None else f"{trial['step_ms']:.2f}"
            said = "\n".join(f"{k}={_short(v)}" for k, v in trial["hyperparameters"].items())
            rows.append([trial["trial"], f"{trial['score']:.4g}", *cells, parameters, step, said])
        return header, rows


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
