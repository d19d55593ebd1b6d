"""The result of `advise`: a table, a page, code to paste and the trained model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from keras_mtl._files import whole_file
from keras_mtl._tables import table_text
from keras_mtl.analysis.advice._code import code_of
from keras_mtl.analysis.advice._decide import sharing_of, signed
from keras_mtl.analysis.advice._page import page_of

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._decide import Outcome, Standing
    from keras_mtl.analysis.advice._look import Finding
    from keras_mtl.analysis.advice._problem import Candidate, Problem
    from keras_mtl.analysis.advice._watch import Watched
    from keras_mtl.models.multi_task_model import MultiTaskModel


class Advice:
    """What `keras_mtl.advise` found.

    Attributes:
        verdict: String. What to do, and what it wins.
        findings: List of what was seen in the data and in the watched
            training, each with `kind`, `text`, `tasks` and `numbers`.
        candidates: List of dicts, one for each candidate: `name`, `reason`,
            `delta_m` (one for each seed, in percent over single-task columns,
            on validation examples), `gains`, `epochs`, `parameters`,
            `step_ms`, `seconds` and `outcome`.
        model: The trained `MultiTaskModel` of the chosen candidate.
        test: Dict of what the test said: `delta_m`, its `interval`, `gains`
            with their intervals, `seeds`, `of`, the candidate that validation
            chose, and `against`, the candidate that gains are relative to;
            `None` where there was no time for it.
        overturned: String. The candidate that validation chose, where the test
            overturned that: the advice is then what it was tested beside. Else
            `None`.
        scales: Dict from task to mean and standard deviation of its labels,
            where they were standardized.
        affinity: `Affinity` of the tasks, by looking ahead.
        origin: String. How many trainings were read and how many done, where
            they are kept.
    """

    def __init__(
        self,
        problem: Problem,
        verdict: Sequence[str],
        findings: Sequence[Finding],
        standings: Sequence[Standing],
        chosen: Candidate,
        tested: Candidate,
        against: Candidate,
        result: Outcome | None,
        watched: Watched,
        curves: Mapping[str, Any],
        left_out: Mapping[str, str],
        plan: str,
        epochs: int,
        seed: int,
        seconds: float,
        model: MultiTaskModel,
    ) -> None:
        self._problem, self._chosen, self._epochs, self._seed = problem, chosen, epochs, seed
        self.verdict = " ".join(verdict)
        self.findings = findings
        self.candidates = [_as_dict(each) for each in standings]
        names = {"of": tested.name, "against": against.name}
        self.test = None if result is None else {**dataclasses.asdict(result), **names}
        self.overturned = None if tested.name == chosen.name else tested.name
        self.watched, self.affinity = watched, watched.affinity
        self.curves, self.left_out, self.plan, self.seconds = curves, left_out, plan, seconds
        self.scales = problem.scales
        self.model = model
        self.origin = None

    @property
    def name(self) -> str:
        """Name of the chosen candidate."""
        return self._chosen.name

    @property
    def tasks(self) -> tuple:
        """Tuple of the tasks."""
        return self._problem.tasks

    @property
    def metrics(self) -> dict:
        """Dict from task to the metric that counts."""
        return self._problem.metrics

    @property
    def directions(self) -> dict | None:
        """Dict from metric to `"max"` or `"min"`, as it was given."""
        return self._problem.directions  # type: ignore[return-value]

    @property
    def sharing(self) -> str:
        """In words, what the chosen candidate shares."""
        return sharing_of(self._chosen, self._problem)

    @property
    def tree(self) -> list | None:
        """For each stage, which tasks share it: a list of groups. `None` where features are mixed."""
        chosen, tasks, count = self._chosen, list(self.tasks), len(self._problem.stages)
        if chosen.builder == "branched_sharing":
            return chosen.options["branches"]
        if chosen.builder != "hard_sharing":
            return None
        depth = chosen.options.get("shared_depth")
        return [[tasks] if depth is None or i < depth else [[task] for task in tasks] for i in range(count)]

    def code(self) -> str:
        """Python code of the chosen model, as text.

        It defines `make_model()`, which returns the compiled model, and
        `train(x, y, sample_weight=None)`, which returns it trained as
        `Advice.model` was.

        Returns:
            String.
        """
        return code_of(self._problem, self._chosen, self._epochs, self._seed)

    def print(self) -> None:
        """Prints the verdict, what was seen, and the candidates."""
        print(self)

    def to_dict(self) -> dict:
        """All of it but the model, as JSON-compatible values."""
        return {
            "verdict": self.verdict,
            "chosen": self.name,
            "overturned": self.overturned,
            "tree": self.tree,
            "test": self.test,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "candidates": self.candidates,
            "left_out": self.left_out,
            "affinity": self.affinity.to_dict(),
            "similarity": None if self.watched.similarity is None else self.watched.similarity.to_dict(),
            "watched": self.watched.content,
            "scales": self.scales,
            "plan": self.plan,
            "seconds": self.seconds,
            "origin": self.origin,
            "code": self.code(),
        }

    def to_json(self, path: str | PathLike | None = None) -> str:
        """The advice as JSON text, written to `path` if given."""
        text = json.dumps(self.to_dict(), indent=2)
        if path is not None:
            with whole_file(path) as part:
                part.write_text(text, encoding="utf-8")
        return text

    def to_html(self, path: str | PathLike) -> None:
        """Writes one page that needs no network.

        Args:
            path: Path of an HTML file.
        """
        with whole_file(path) as part:
            part.write_text(page_of(self), encoding="utf-8")

    def __str__(self) -> str:
        header = ["candidate", "delta_m %", *(f"{task} %" for task in self.metrics), "epochs", "seeds"]
        header += ["parameters", "ms/step", "s", "outcome"]
        rows = [self._row(each) for each in self.candidates]
        table = table_text(header, rows, left=["candidate", "outcome"])
        seen = "".join(f"- {finding.text}\n" for finding in self.findings)
        why = "".join(f"- {each['name']}: {each['reason']}\n" for each in self.candidates)
        why += "".join(f"- {name} was left out: {reason}\n" for name, reason in self.left_out.items())
        notes = "Gains over single-task columns on validation examples, at the same epochs and seeds."
        origin = "" if self.origin is None else f"\n{self.origin}"
        return (
            f"{self.verdict}\n\nWhat was seen:\n{seen}\nCandidates:\n{why}\n{table}{notes} "
            f"{self.seconds:.0f} s in all.{origin}"
        )

    def _row(self, each: Mapping[str, Any]) -> list[str]:
        delta = each["delta_m"]
        mean = sum(delta) / len(delta) if delta else math.nan
        cells = [signed(mean), *(signed(each["gains"].get(task, math.nan)) for task in self.metrics)]
        costs = [f"{each['parameters']:,}", f"{each['step_ms']:.2f}", f"{each['seconds']:.1f}"]
        return [each["name"], *cells, str(each["epochs"]), str(len(each["seeds"])), *costs, each["outcome"]]


def _as_dict(standing: Standing) -> dict[str, Any]:
    """A standing as JSON-compatible values."""
    candidate = standing.candidate
    return {
        "name": candidate.name,
        "reason": candidate.reason,
        "settings": candidate.settings(),
        "delta_m": standing.delta_m,
        "gains": standing.gains,
        "epochs": standing.epochs,
        "seeds": standing.seeds,
        "parameters": standing.parameters,
        "step_ms": standing.step_ms,
        "seconds": standing.seconds,
        "outcome": standing.outcome,
    }
