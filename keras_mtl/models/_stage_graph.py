"""The model as a graph of stages, and its coefficients as tables with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mtl._keras_private import calls_in
from keras_mtl._types import Structure
from keras_mtl.layers import Stage
from keras_mtl.models._coefficients import CoefficientReader

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


class StageGraph:
    """Stages, where their inputs come from, and what mixes them.

    Args:
        model: A `MultiTaskModel`.

    Attributes:
        stages: List of the stages, in the order in which data passes them; of
            the layers with variables, where the model has no stages.
        sources: Dict from a stage's name to a list, for each of its inputs, of
            the stages that the input comes from; in any of its calls, where
            there are several.
        mixing: Dict from name to stage, of the stages with coefficients.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        self.model = model
        self.stages = [layer for layer in model.layers if isinstance(layer, Stage)] or [
            layer for layer in model.layers if layer.variables
        ]
        # A node is one call of a layer: a stage that is called several times has several.
        self._nodes = {}
        for node in calls_in(model):
            self._nodes.update({id(tensor): node for tensor in node.output_tensors})
        self.sources = {stage.name: self._sources_of_inputs(stage) for stage in self.stages}
        self._reader = CoefficientReader(model)
        self.mixing = {stage.name: stage for stage in self._reader.mixing}

    def _sources_of_inputs(self, stage: Stage) -> list[list[Stage]]:
        """For each place of a stage's inputs, the stages that it is ever taken from."""
        places = []
        for node in dict.fromkeys(self._nodes.values()):
            if node.operation is stage:
                for place, tensor in enumerate(node.input_tensors):
                    places += [[]] if place == len(places) else []
                    places[place] += [s for s in self._sources(tensor) if s not in places[place]]
        return places

    def _sources(self, tensor: keras.KerasTensor) -> list[Stage]:
        """The stages that a tensor comes from, through what is none."""
        node = self._nodes[id(tensor)]
        if any(node.operation is stage for stage in self.stages):
            return [node.operation]
        return [stage for t in node.input_tensors for stage in self._sources(t)]

    def read(self, x: Structure | None = None) -> dict[str, np.ndarray]:
        """The coefficients as they are now.

        Args:
            x: Inputs for those that depend on the example. Defaults to `None`:
                these are left out.

        Returns:
            Dict as `MultiTaskModel.sharing_coefficients` returns it.
        """
        return self._reader.read(x)

    def by_source(self, coefficients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One coefficient for each source of a mixing stage.

        Args:
            coefficients: What `read` returned.

        Returns:
            Dict from a stage's name to an array; without those of masks.
        """
        return {
            name: stage.mixer.by_source(coefficients[stage.scope])
            for name, stage in self.mixing.items()
            if stage.scope in coefficients and hasattr(stage.mixer, "by_source")
        }

    def owner(self, stage: keras.Layer) -> str:
        """The task that a stage belongs to, or `"shared"`."""
        root = getattr(stage, "scope", "shared").split("/")[0]
        served = self.model.sharing.tasks_of(stage)
        if root in self.model.tasks:
            return root
        return served[0] if len(served) == 1 else "shared"

    def tables(self, coefficients: Mapping[str, np.ndarray]) -> dict[str, tuple[list[str], list[str], np.ndarray]]:
        """Coefficients as tables.

        Args:
            coefficients: What `read` returned.

        Returns:
            Dict from title to a tuple of row names, column names and values,
            NaN where a row has no such column. Rows are who takes (tasks, or
            `"shared"`), columns what they take from.
        """
        by_source, found = self.by_source(coefficients), {}
        for name, stage in self.mixing.items():
            owner, _, title = stage.scope.partition("/")
            if name in by_source:
                names, values = self._source_names(stage, len(by_source[name])), by_source[name]
            elif stage.scope in coefficients:  # a mask: its channels
                title, values = f"{title}, by channel", coefficients[stage.scope]
                names = [str(channel) for channel in range(len(values))]
            else:
                continue
            found.setdefault(title, {})[owner] = dict(zip(names, values, strict=True))
        tables = {}
        for title, rows in found.items():
            owners = [owner for owner in (*self.model.tasks, "shared") if owner in rows]
            columns = list(dict.fromkeys(column for owner in owners for column in rows[owner]))
            values = [[rows[owner].get(column, np.nan) for column in columns] for owner in owners]
            tables[title] = (owners, columns, np.array(values, "float64"))
        for key, value in coefficients.items():
            if key.startswith("distance/"):
                tables[key] = (list(self.model.tasks), list(self.model.tasks), value)
        return tables

    def _source_names(self, stage: keras.Layer, count: int) -> list[str]:
        groups = self.sources[stage.name]
        if len(groups) != count:  # a gate: its experts stand at the mixture that takes it
            mixture = next(s for s in self.stages if self.sources[s.name][:1] == [[stage]])
            groups = self.sources[mixture.name][1:]
        stages = [group[0] for group in groups]
        scopes = [getattr(s, "scope", s.name) for s in stages]
        if len({scope.split("/")[0] for scope in scopes}) == 1 and "/units/" in scopes[0]:  # type: ignore[operator]
            return [scope.rsplit("/", 1)[1] for scope in scopes]
        return [scope.replace("/expert_", " ") for scope in scopes]
