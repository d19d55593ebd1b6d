"""The report of a comparison: gains over single-task models and costs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl._files import whole_file
from keras_mtl._tables import markdown_table, table_text
from keras_mtl._types import Structure
from keras_mtl.analysis._plots import plot_report
from keras_mtl.analysis._statistics import confidence_interval, mean_and_spread, sign_test
from keras_mtl.metrics.delta_m import delta_m
from keras_mtl.metrics.directions import higher_is_better


class Report:
    """Results of `keras_mtl.analysis.compare`.

    Args:
        runs: Dict from candidate to a list of runs, one for each seed.
        baselines: Dict from task to the single-task runs, one for each seed, or
            to a dict from metric to a value that is known.
        metrics: Dict from task to a list of metrics.
        seeds: List of integers.
        directions: Dict from metric to `"max"` or `"min"`.
        origin: String. How many runs were read and how many trained, where
            they are kept. Defaults to `None`.
    """

    def __init__(
        self,
        runs: Mapping[str, Sequence[Mapping[str, Any]]],
        baselines: Mapping[str, Any],
        metrics: Mapping[str, Sequence[str]],
        seeds: Sequence[int],
        directions: Mapping[str, str] | None = None,
        origin: str | None = None,
    ) -> None:
        self.runs = runs
        self.baselines = baselines
        self.metrics = metrics
        self.seeds = seeds
        self.directions = directions or {}
        self.origin = origin

    @property
    def baselines_are_known(self) -> bool:
        """Whether single-task values were given, and no model trained for them."""
        return any(isinstance(of_task, dict) for of_task in self.baselines.values())

    @property
    def baseline_means(self) -> dict[str, dict[str, float]]:
        """Dict from task to metric to the single-task mean over seeds.

        It is what `keras_mtl.metrics.DeltaM` takes.
        """
        if self.baselines_are_known:
            return {task: {m: self.baselines[task][m] for m in of_task} for task, of_task in self.metrics.items()}
        return {
            task: {m: mean_and_spread(self._values(self.baselines[task], task, m))[0] for m in of_task}
            for task, of_task in self.metrics.items()
        }

    @property
    def baseline_gains(self) -> dict[str, list[float]]:
        """Dict from task to the gains of its single-task runs over their mean.

        Their mean is 0; their spread says what a gain is worth.
        """
        if self.baselines_are_known:
            return {task: [0.0] for task in self.metrics}
        return {task: self._gains(task, self.baselines[task]) for task in self.metrics}

    def delta_m(self, candidate: str) -> list[float]:
        """delta_m of a candidate, in percent, for each seed.

        Args:
            candidate: String. Name of the candidate.

        Returns:
            List of numbers.
        """
        means = self.baseline_means
        return [
            delta_m(
                {t: {m: run["values"][f"{t}_{m}"] for m in of_task} for t, of_task in self.metrics.items()},
                means,
                self.directions,
            )
            for run in self.runs[candidate]
        ]

    def interval(self, candidate: str) -> tuple[float, float] | None:
        """95 % confidence interval of the mean delta_m of a candidate.

        Welch's, of the difference to the single-task models, whose own spread
        over seeds counts too.

        Args:
            candidate: String. Name of the candidate.

        Returns:
            Tuple `(low, high)`, or `None` with fewer than two seeds.
        """
        if self.baselines_are_known:
            return confidence_interval(self.delta_m(candidate))
        alone = [sum(of_seed) / len(of_seed) for of_seed in zip(*self.baseline_gains.values(), strict=True)]
        return confidence_interval(self.delta_m(candidate), alone)

    def gains(self, candidate: str, task: str) -> list[float]:
        """Gain of one task over its single-task mean, in percent, by seed."""
        return self._gains(task, self.runs[candidate])

    def _gains(self, task: str, runs: Sequence[Mapping[str, Any]]) -> list[float]:
        of_task = {task: self.baseline_means[task]}
        return [
            delta_m({task: {m: run["values"][f"{task}_{m}"] for m in of_task[task]}}, of_task, self.directions)
            for run in runs
        ]

    def negative_transfer(self, candidate: str) -> list[str]:
        """Tasks that lost in every seed and by more than the baseline's spread.

        The spread is the standard deviation of the single-task runs' gains
        over their own mean. One seed says nothing of it: then none is named.

        Args:
            candidate: String. Name of the candidate.

        Returns:
            List of task names.
        """
        lost = []
        if len(self.runs[candidate]) < 2:
            return lost
        for task, alone in self.baseline_gains.items():
            gains = self.gains(candidate, task)
            if max(gains) < 0 and abs(mean_and_spread(gains)[0]) > mean_and_spread(alone)[1]:
                lost.append(task)
        return lost

    def to_dict(self) -> dict[str, Any]:
        """All of the report as JSON-compatible values."""
        summary = {}
        for name, runs in self.runs.items():
            gains, interval = self.delta_m(name), self.interval(name)
            summary[name] = {
                "delta_m": gains,
                "delta_m_mean": mean_and_spread(gains)[0],
                "delta_m_interval": None if interval is None else list(interval),
                "sign_test_p": sign_test(gains),
                "gains": {task: self.gains(name, task) for task in self.metrics},
                "negative_transfer": self.negative_transfer(name),
                **self._summary(runs, dict.fromkeys(self.metrics, runs)),
            }
        return {"seeds": self.seeds, "single_task": self._baseline_summary(), "candidates": summary}

    def _baseline_summary(self) -> dict[str, Any]:
        if self.baselines_are_known:
            means = self.baseline_means
            known = {f"{t}_{m}": {"mean": value, "spread": 0.0} for t, of in means.items() for m, value in of.items()}
            return {"metrics": known, "parameters": None, "step_ms": None, "seconds": None}
        each = [self._summary(runs, self.baselines) for runs in self.baselines.values()]
        # One step of every task, one model for every task.
        return {**each[0], **{key: sum(one[key] for one in each) for key in ("parameters", "step_ms", "seconds")}}

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """The report as JSON text, written to `path` if given."""
        text = json.dumps(self.to_dict(), indent=2)
        if path is not None:
            with whole_file(path) as part:
                part.write_text(text)
        return text

    def to_markdown(self) -> str:
        """The report as a Markdown table."""
        header, rows = self._table()
        return "\n".join([markdown_table(header, rows), "", *self._notes()])

    def print(self) -> None:
        """Prints the report as a table."""
        print(self)

    def __str__(self) -> str:
        header, rows = self._table()
        return table_text(header, rows, left=["model"]) + "\n".join(self._notes())

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the gain of each task with error bars, and training curves.

        Args:
            path: Path of a PNG, PDF or SVG file.
        """
        plot_report(self, path)

    def _values(self, runs: Sequence[Mapping[str, Any]], task: str, metric: str) -> list[float]:
        return [run["values"][f"{task}_{metric}"] for run in runs]

    def _summary(self, runs: Sequence[Mapping[str, Any]], runs_of_task: Structure) -> dict[str, Any]:
        return {
            "metrics": {
                f"{task}_{m}": dict(
                    zip(("mean", "spread"), mean_and_spread(self._values(runs_of_task[task], task, m)), strict=True)
                )
                for task, of_task in self.metrics.items()
                for m in of_task
            },
            "parameters": runs[0]["parameters"],
            "step_ms": mean_and_spread([run["step_ms"] for run in runs])[0],
            "seconds": sum(run["seconds"] for run in runs),
        }

    def _table(self) -> tuple[list[str], list[list[str]]]:
        content = self.to_dict()
        counted = [(task, metric) for task, of_task in self.metrics.items() for metric in of_task]
        names = [f"{task}_{metric}" for task, metric in counted]
        arrows = ["↑" if higher_is_better(metric, self.directions) else "↓" for _, metric in counted]
        header = ["model", *(f"{n} {a}" for n, a in zip(names, arrows, strict=True))]
        header += ["delta_m %", "95 % interval", "parameters", "ms/step", "s"]
        rows = []
        for name, entry in [("single-task", content["single_task"]), *content["candidates"].items()]:
            cells = [f"{entry['metrics'][n]['mean']:.4g} ± {entry['metrics'][n]['spread']:.2g}" for n in names]
            gain = ["0", ""]
            if "delta_m" in entry:
                ends = entry["delta_m_interval"]
                gain = [f"{entry['delta_m_mean']:+.2f}", "" if ends is None else f"{ends[0]:+.2f} to {ends[1]:+.2f}"]
            cost = ["", "", ""]
            if entry["parameters"] is not None:
                cost = [f"{entry['parameters']:,}", f"{entry['step_ms']:.2f}", f"{entry['seconds']:.1f}"]
            rows.append([name, *cells, *gain, *cost])
        return header, rows

    def _notes(self) -> list[str]:
        count = len(self.seeds)
        alone = "values were given" if self.baselines_are_known else "costs are sums over the tasks"
        notes = [
            f"Means ± standard deviations over {count} seed{'s' * (count > 1)}; gains are relative to the single-task "
            f"means. Single-task {alone}."
        ]
        for name, entry in self.to_dict()["candidates"].items():
            lost = ", ".join(entry["negative_transfer"])
            transfer = "no task lost in every seed beyond the baseline's spread"
            if lost or count < 2:
                transfer = f"negative transfer on {lost}" if lost else "one seed says nothing of negative transfer"
            ups = sum(gain > 0 for gain in entry["delta_m"])
            sign = f"delta_m above 0 in {ups} of {count} seeds (sign test p = {entry['sign_test_p']:.3f})"
            notes.append(f"{name}: {sign}; {transfer}.")
        return notes if self.origin is None else [*notes, self.origin]
