"""A set of models along the Pareto front: one for each preference of the tasks."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._checks import check_boolean, check_integer, check_numbers, is_integer
from keras_mtl._files import whole_file
from keras_mtl._tables import markdown_table, table_text
from keras_mtl._types import Data
from keras_mtl.analysis._baselines import check_candidate
from keras_mtl.analysis._fronts import beats, hypervolume
from keras_mtl.analysis._new_models import NewModels
from keras_mtl.analysis._progress import run_bar
from keras_mtl.analysis._runs import RUN, has_values, train_and_evaluate
from keras_mtl.analysis._store import RunStore
from keras_mtl.metrics.directions import higher_is_better

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def pareto_sweep(
    build: Callable[[dict[str, float]], MultiTaskModel],
    preferences: int | Sequence[Mapping[str, float]],
    data: Data,
    *,
    test: Data,
    metrics: Mapping[str, str],
    validation: Data | None = None,
    epochs: int = 10,
    seed: int = 0,
    directions: Mapping[str, str] | None = None,
    directory: str | os.PathLike | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> ParetoSweep:
    """Trains a model for each preference of the tasks, and says which of them are on the Pareto front.

    What a preference does is up to `build`: it is handed on as `preference=`
    of a weighting that takes one (`"pbi"`, `"cosmos"`, `"stch"`, `"upgrad"`,
    `"dualproj"`), or as `loss_weights`. All models start from one seed.

    Args:
        build: Function from a preference, a dict from task to a number of at
            least 0 with sum 1, to a compiled `MultiTaskModel`, a new one each
            time.
        preferences: List of dicts from task to number, or an integer n: the
            preferences of a grid on the simplex with n of them along each
            edge, so n for two tasks.
        data: Training data: a `tf.data.Dataset` or a `PyDataset`, or a tuple
            `(x, y)` or `(x, y, sample_weight)`.
        test: Test data, as `data`, that the models are evaluated on once.
        metrics: Dict from task to the metric that counts, named as in the logs
            after the task: `"accuracy"`, `"loss"`. Two tasks or more; those
            that are left out have no preference.
        validation: Validation data for the curves, as `data`. Defaults to
            `None`.
        epochs: Integer. Defaults to `10`.
        seed: Integer. Defaults to `0`.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell.
        directory: Path of a folder for finished runs and their weights. A run
            that is there is read, not trained, if nothing differs that could
            change it. Defaults to `None`.
        progress: Boolean. Whether to show progress. Defaults to `True`.
        **fit_options: Further arguments of `fit`, such as `batch_size`.

    Returns:
        A `ParetoSweep`.

    Raises:
        ValueError: If a preference does not fit the tasks, has a negative
            number or is all 0, or `build` gives no new compiled model that
            logs the metrics.
    """
    check_boolean(progress, "progress")
    if len(metrics) < 2 or not all(isinstance(metric, str) for metric in metrics.values()):
        raise ValueError(f"`metrics` should be a dict from two tasks or more to a metric each. Received: {metrics}")
    signs = {f"{task}_{m}": 1 if higher_is_better(m, directions) else -1 for task, m in metrics.items()}
    preferences = _checked(preferences, list(metrics))
    seed = check_integer(seed, "seed")
    new, points, models = NewModels(), [], []
    settings: dict[str, Any] = {"data": (data, validation, test), "epochs": epochs, "fit": fit_options}
    with RunStore(directory, **settings) as store, run_bar("sweep", len(preferences), progress) as begin:
        for preference in preferences:
            said = ", ".join(f"{task} {share:.3g}" for task, share in preference.items())
            begin(said)
            keras.utils.set_random_seed(seed)
            model = build(dict(preference))
            check_candidate(said, model, {task: [m] for task, m in metrics.items()})
            new.check(f"`build`, for the preference {said},", model)
            key = store.key(model=store.digest(model=model), seed=seed) if store.keeps else None
            run = store.load(key, RUN, network=model, check=has_values(signs))
            if run is None:
                run = train_and_evaluate(model, data, validation, test, epochs, fit_options)
                store.save(key, f"sweep {said}", run, network=model)
            points.append({"preference": preference, **{name: run["values"][name] for name in signs}})
            models.append(model)
        begin()
    return ParetoSweep(points, models, signs)


def _checked(preferences: int | Sequence[Mapping[str, float]], tasks: Sequence[str]) -> list[dict[str, float]]:
    """The preferences as dicts whose numbers sum to 1."""
    if is_integer(preferences):
        count = check_integer(preferences, "preferences", 2)
        parts = itertools.product(range(count), repeat=len(tasks))
        found = [dict(zip(tasks, part, strict=True)) for part in parts if sum(part) == count - 1]
    else:
        found = list(preferences) if isinstance(preferences, (list, tuple)) else []
    if not found:
        raise ValueError(
            "`preferences` should be a list of dicts from task to number, or an integer. "
            f"Received: preferences={preferences!r}"
        )
    return [_shares(preference, tasks, "preferences") for preference in found]


def _shares(preference: Mapping[str, float], tasks: Sequence[str], argument: str) -> dict[str, float]:
    if not isinstance(preference, dict) or set(preference) != set(tasks):
        raise ValueError(f"`{argument}` should have one number for each of the tasks {tasks}. Received: {preference!r}")
    values = check_numbers([preference[task] for task in tasks], argument, least=0)
    if not sum(values) > 0:
        raise ValueError(f"`{argument}` should not be all 0. Received: {preference!r}")
    return {task: value / sum(values) for task, value in zip(tasks, values, strict=True)}


class ParetoSweep:
    """What `pareto_sweep` found.

    Args:
        points: List of dicts of a `preference` and the value of each metric.
        models: List of the trained models, in the same order.
        signs: Dict from the name of a metric, such as `"left_accuracy"`, to 1
            where more is better, and -1.

    Attributes:
        points: List of dicts: `preference`, a value for each metric, and
            `on_front`, whether no other model is at least as good in every
            metric and better in one.
        models: List of the models, in the order of the points.
    """

    def __init__(
        self, points: Sequence[dict[str, Any]], models: Sequence[MultiTaskModel], signs: Mapping[str, int]
    ) -> None:
        self.points, self.models, self.signs = points, models, signs
        goods = [self._goods(point) for point in points]
        for point, good in zip(points, goods, strict=True):
            point["on_front"] = not any(beats(other, good) for other in goods)

    def _goods(self, point: Mapping[str, float]) -> list[float]:
        """The values of a point, more being better."""
        return [sign * point[name] for name, sign in self.signs.items()]

    @property
    def front(self) -> list[dict[str, Any]]:
        """The points on the front."""
        return [point for point in self.points if point["on_front"]]

    def hypervolume(self, reference: Mapping[str, float] | None = None) -> float:
        """The volume between the front and a reference point.

        Args:
            reference: Dict from the name of a metric, as in `signs`, to the
                value beyond which nothing counts. To compare sweeps, give both
                the same. Defaults to `None`: the worst value of each metric in
                this sweep.

        Returns:
            Float, in the product of the metrics' units.
        """
        if reference is None:
            corner = [min(values) for values in zip(*map(self._goods, self.points), strict=True)]
        elif isinstance(reference, dict) and set(reference) == set(self.signs):
            corner = self._goods(reference)
        else:
            raise ValueError(
                f"`reference` should have one number for each of {list(self.signs)}. Received: {reference!r}"
            )
        return hypervolume([self._goods(point) for point in self.front], corner)

    def choose(
        self, trade_off: Mapping[str, float] | Callable[[dict[str, float]], float]
    ) -> tuple[dict[str, Any], MultiTaskModel]:
        """The model that suits a trade-off best.

        Values are first taken as losses relative to the front, 0 for its best
        and 1 for its worst value of a metric. Chosen is the point of the front
        whose largest loss, weighted by the trade-off, is least: with large
        numbers for a task it may lose little of it.

        Args:
            trade_off: Dict from task to a number of at least 0, how much a
                relative loss of that task's metric counts; or a function from
                the dict of a point's values to a number, of which the least is
                taken.

        Returns:
            Tuple of the point and its model.
        """
        front = self.front
        if callable(trade_off):
            costs = [trade_off({name: point[name] for name in self.signs}) for point in front]
        else:
            names = {
                name: task for name in self.signs for task in front[0]["preference"] if name.startswith(f"{task}_")
            }
            shares = _shares(trade_off, list(front[0]["preference"]), "trade_off")
            goods = [self._goods(point) for point in front]
            best, worst = ([pick(values) for values in zip(*goods, strict=True)] for pick in (max, min))
            wide = [b - w or 1.0 for b, w in zip(best, worst, strict=True)]
            losses = [[(b - g) / w for b, g, w in zip(best, good, wide, strict=True)] for good in goods]
            weights = [shares[names[name]] for name in self.signs]
            # The sum decides where the largest is the same.
            weighted = [[a * b for a, b in zip(weights, loss, strict=True)] for loss in losses]
            costs = [(max(each), sum(each)) for each in weighted]  # type: ignore[misc]
        chosen = min(range(len(front)), key=costs.__getitem__)
        point = front[chosen]
        return point, self.models[next(i for i, each in enumerate(self.points) if each is point)]

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """All points as JSON text, written to `path` if given."""
        text = json.dumps(self.points, indent=2)
        if path is not None:
            with whole_file(path) as part:
                part.write_text(text, encoding="utf-8")
        return text

    def to_markdown(self) -> str:
        """The points as a Markdown table."""
        return markdown_table(*self._table())

    def print(self) -> None:
        """Prints the points as a table."""
        print(self)

    def __str__(self) -> str:
        header, rows = self._table()
        return f"{table_text(header, rows)}{len(self.front)} of {len(rows)} preferences are on the front."

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the values of every model, and which are on the front, for each pair of metrics.

        Args:
            path: Path of a PNG, PDF or SVG file.
        """
        from keras_mtl.analysis._plots import plot_sweep

        plot_sweep(self, path)

    def _table(self) -> tuple[list[str], list[list[str]]]:
        tasks = list(self.points[0]["preference"])
        arrows = [f"{name} {'↑' if sign > 0 else '↓'}" for name, sign in self.signs.items()]
        rows = []
        for point in self.points:
            shares = [f"{point['preference'][task]:.3g}" for task in tasks]
            rows.append([*shares, *(f"{point[name]:.4g}" for name in self.signs), "front" if point["on_front"] else ""])
        return [*tasks, *arrows, ""], rows
