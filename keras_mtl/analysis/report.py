"""The report of a comparison: who gained, by how much, and at what cost."""

import io
import json
import pathlib

from keras_mtl.analysis.statistics import confidence_interval, mean_and_spread, sign_test
from keras_mtl.metrics.delta_m import delta_m
from keras_mtl.metrics.directions import higher_is_better


class Report:
    """Results of `keras_mtl.analysis.compare`.

    Args:
        runs: Dict from candidate to a list of runs, one for each seed.
        baselines: Dict from task to the single-task runs.
        metrics: Dict from task to a list of metrics.
        seeds: List of integers.
        directions: Dict from metric to `"max"` or `"min"`.
    """

    def __init__(self, runs, baselines, metrics, seeds, directions=None):
        self.runs = runs
        self.baselines = baselines
        self.metrics = metrics
        self.seeds = seeds
        self.directions = directions or {}

    @property
    def baseline_means(self):
        """Dict from task to metric to the single-task mean over seeds.

        It is what `keras_mtl.metrics.DeltaM` takes.
        """
        return {
            task: {m: mean_and_spread(self._values(self.baselines[task], task, m))[0] for m in of_task}
            for task, of_task in self.metrics.items()
        }

    def delta_m(self, candidate):
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

    def gains(self, candidate, task):
        """Gain of one task over its single-task mean, in percent, by seed."""
        of_task = {task: self.baseline_means[task]}
        return [
            delta_m({task: {m: run["values"][f"{task}_{m}"] for m in of_task[task]}}, of_task, self.directions)
            for run in self.runs[candidate]
        ]

    def negative_transfer(self, candidate):
        """Tasks that lost in every seed and by more than the baseline's spread.

        Args:
            candidate: String. Name of the candidate.

        Returns:
            List of task names.
        """
        lost = []
        for task, of_task in self.metrics.items():
            metric = of_task[0]
            base, base_spread = mean_and_spread(self._values(self.baselines[task], task, metric))
            value, _ = mean_and_spread(self._values(self.runs[candidate], task, metric))
            if max(self.gains(candidate, task)) < 0 and abs(value - base) > base_spread:
                lost.append(task)
        return lost

    def to_dict(self):
        """All of the report as JSON-compatible values."""
        summary = {}
        for name, runs in self.runs.items():
            gains = self.delta_m(name)
            all_gains = [gain for task in self.metrics for gain in self.gains(name, task)]
            summary[name] = {
                "delta_m": gains,
                "delta_m_mean": mean_and_spread(gains)[0],
                "delta_m_interval": list(confidence_interval(gains)),
                "sign_test_p": sign_test(all_gains),
                "negative_transfer": self.negative_transfer(name),
                **self._summary(runs, dict.fromkeys(self.metrics, runs)),
            }
        baseline_runs = [run for runs in self.baselines.values() for run in runs]
        baseline = self._summary(baseline_runs, self.baselines)
        baseline["parameters"] = sum(runs[0]["parameters"] for runs in self.baselines.values())
        return {"seeds": self.seeds, "single_task": baseline, "candidates": summary}

    def to_json(self, path=None):
        """The report as JSON text, written to `path` if given."""
        text = json.dumps(self.to_dict(), indent=2)
        if path is not None:
            pathlib.Path(path).write_text(text)
        return text

    def to_markdown(self):
        """The report as a Markdown table."""
        header, rows = self._table()
        lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([*lines, "", *self._notes()])

    def print(self):
        """Prints the report as a table."""
        print(self)

    def __str__(self):
        from rich.console import Console
        from rich.table import Table

        header, rows = self._table()
        table = Table()
        for column in header:
            table.add_column(column, justify="left" if column == "model" else "right")
        for row in rows:
            table.add_row(*row)
        stream = io.StringIO()
        Console(file=stream, width=max(80, 24 * len(header))).print(table)
        return stream.getvalue() + "\n".join(self._notes())

    def plot(self, path):
        """Draws the gain of each task with error bars, and training curves.

        Args:
            path: Path of a PNG, PDF or SVG file.
        """
        from keras_mtl.analysis.plots import plot_report

        plot_report(self, path)

    def _values(self, runs, task, metric):
        return [run["values"][f"{task}_{metric}"] for run in runs]

    def _summary(self, runs, runs_of_task):
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

    def _table(self):
        content = self.to_dict()
        names = [f"{task}_{m}" for task, of_task in self.metrics.items() for m in of_task]
        arrows = ["↑" if higher_is_better(n.split("_", 1)[-1], self.directions) else "↓" for n in names]
        header = ["model", *(f"{n} {a}" for n, a in zip(names, arrows, strict=True))]
        header += ["delta_m %", "95 % interval", "parameters", "ms/step", "s"]
        rows = []
        for name, entry in [("single-task", content["single_task"]), *content["candidates"].items()]:
            cells = [f"{entry['metrics'][n]['mean']:.4g} ± {entry['metrics'][n]['spread']:.2g}" for n in names]
            gain = ["0", ""]
            if "delta_m" in entry:
                low, high = entry["delta_m_interval"]
                gain = [f"{entry['delta_m_mean']:+.2f}", f"{low:+.2f} to {high:+.2f}"]
            cost = [f"{entry['parameters']:,}", f"{entry['step_ms']:.2f}", f"{entry['seconds']:.1f}"]
            rows.append([name, *cells, *gain, *cost])
        return header, rows

    def _notes(self):
        notes = [f"Means over {len(self.seeds)} seeds; gains are relative to the single-task means."]
        for name, entry in self.to_dict()["candidates"].items():
            lost = ", ".join(entry["negative_transfer"])
            transfer = f"negative transfer on {lost}" if lost else "no task lost in every seed"
            notes.append(f"{name}: sign test over tasks and seeds p = {entry['sign_test_p']:.3f}; {transfer}.")
        return notes
