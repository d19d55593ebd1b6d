"""Where the boxes and arrows of a picture of a model stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import keras

from keras_mtl._types import Structure
from keras_mtl.models._coefficients import tied_stages
from keras_mtl.models._stage_graph import StageGraph

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel

STEP, BOX = 1.85, 1.3  # from one box to the next, and the width of one, in the units of the drawing


def box_height() -> float:
    """Height of a box, where one row is 1."""
    return 0.72


class PlacedGraph(StageGraph):
    """Stages and inputs with places in the drawing.

    Args:
        model: A `MultiTaskModel`.
        x: Inputs for coefficients that depend on the example, or `None`.

    Attributes:
        coefficients: What is known of the coefficients.
        weights: Dict from a stage's name to one coefficient for each source.
        inputs: Dict from name to shape, as text.
        arrows: List of tuples: source, target and coefficient, or `None`.
        ties: List of pairs of stages whose weights are tied.
        lanes: Dict from the tasks that a lane belongs to, a tuple, to its top
            and bottom.
        places: Dict from name to `(x, y)`.
        size: Width and height of the drawing.
    """

    def __init__(self, model: MultiTaskModel, x: Structure) -> None:
        super().__init__(model)
        self.coefficients = self.read(x)
        self.weights = self.by_source(self.coefficients)
        self.inputs = {
            f"input/{o.name}": str(tuple(o.output.shape[1:]))
            for o in model.operations
            if isinstance(o, keras.layers.InputLayer)
        }
        self.ties = [
            (first, second)
            for stage in tied_stages(self.model)
            for first in [stage.name]
            for second in stage.partners[stage.partners.index(first) + 1 :][:1]
        ]
        self.arrows = [
            (source, stage.name, self._weight(stage, place))
            for stage in self.stages
            for place, group in enumerate(self.sources[stage.name])
            for source in [*(s.name for s in group), *self._inputs_of(stage, place)]
        ]
        self._place()

    def is_blocked(self, source: str, target: str) -> bool:
        """Whether a straight arrow would pass through another box."""
        (x0, y0), (x1, y1) = self.places[source], self.places[target]
        return any(
            x0 < x < x1 and abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) < box_height() / 2
            for x, y in self.places.values()
        )

    def labels(self) -> dict[str, list[str]]:
        """Dict from a stage's name to one or two lines, which no other stage has."""
        short = {stage.name: _label(stage) for stage in self.stages}
        taken = list(short.values())
        return {
            stage.name: _lines(short[stage.name], self._owner(stage) if taken.count(short[stage.name]) > 1 else "")
            for stage in self.stages
        }

    def _owner(self, stage: keras.Layer) -> str:
        owner = self.owner(stage)
        return owner if len(self._lane(stage)) == 1 or owner == "shared" else " + ".join(self._lane(stage))

    def _weight(self, stage: keras.Layer, place: int) -> float | None:
        """The coefficient with which a stage takes its input number `place`."""
        given = self.weights.get(stage.name)
        if given is not None and len(given) == len(self.sources[stage.name]):
            return float(given[place])
        first = self.sources[stage.name][0]
        gate = self.weights.get(first[0].name) if first else None
        if place and gate is not None and len(gate) == len(self.sources[stage.name]) - 1:
            return float(gate[place - 1])
        return None

    def _lane(self, stage: keras.Layer) -> tuple[str, ...]:
        """The tasks whose lane a stage stands in."""
        owner = self.owner(stage)
        return (owner,) if owner in self.model.tasks else self.model.sharing.feeds(stage) or tuple(self.model.tasks)

    def _place(self) -> None:
        depth = dict.fromkeys(self.inputs, 0)
        for stage in self.stages:  # in the order in which data passes them
            # What a shared stage takes from a later one, or from itself in another call, goes back.
            before = [depth[s] for s, target, _ in self.arrows if target == stage.name and s in depth]
            depth[stage.name] = 1 + max(before, default=0)
        of_lane = {stage.name: self._lane(stage) for stage in self.stages}
        tasks = tuple(self.model.tasks)
        lanes = _in_order(set(of_lane.values()) | ({tasks} if self.inputs else set()), tasks, depth, of_lane)
        cells = {}
        for name, lane in of_lane.items():
            cells.setdefault((lane, depth[name]), []).append(name)
        heights = {lane: max([1, *(len(c) for (of, _), c in cells.items() if of == lane)]) for lane in lanes}
        if tasks not in of_lane.values():  # nothing but inputs would stand in it
            heights.pop(tasks, None)
        self.lanes, top = {}, 0.0
        for lane, height in heights.items():
            self.lanes[lane] = (-top, -top - height)
            top += height
        self.size = (STEP * (max(depth.values(), default=0) + 0.65), top)
        self.places = {}
        middle = sum(self.lanes[tasks]) / 2 if tasks in self.lanes else -top / 2
        for i, name in enumerate(self.inputs):
            self.places[name] = (0.0, middle - i + (len(self.inputs) - 1) / 2)
        for _ in range(3):  # those that hang together move next to each other
            for (lane, column), names in cells.items():
                if self.places.keys() >= set(names):
                    names.sort(key=lambda name: -self._pull(name))
                upper, lower = self.lanes[lane]
                gap = (upper - lower - len(names)) / 2
                for i, name in enumerate(names):
                    self.places[name] = (STEP * column, upper - gap - i - 0.5)

    def _pull(self, name: str) -> float:
        """The mean height of those that a box has arrows from and to."""
        ends = [target if source == name else source for source, target, _ in self.arrows if name in (source, target)]
        heights = [self.places[end][1] for end in ends if end in self.places and end != name]
        return sum(heights) / len(heights) if heights else self.places[name][1]

    def _inputs_of(self, stage: keras.Layer, place: int) -> list[str]:
        """Names of the inputs that a stage reads, not through other stages, at its input number `place`."""
        found = []
        for node in dict.fromkeys(self._nodes.values()):
            if node.operation is stage and place < len(node.input_tensors):
                found += self._inputs_behind(node.input_tensors[place])
        return list(dict.fromkeys(found))

    def _inputs_behind(self, tensor: keras.KerasTensor) -> list[str]:
        node = self._nodes[id(tensor)]
        if any(node.operation is stage for stage in self.stages):
            return []
        if isinstance(node.operation, keras.layers.InputLayer):
            return [f"input/{node.operation.name}"]
        return [name for t in node.input_tensors for name in self._inputs_behind(t)]


def _in_order(
    lanes: Collection[tuple[str, ...]],
    tasks: tuple[str, ...],
    depth: Mapping[str, int],
    of_lane: Mapping[str, tuple[str, ...]],
) -> list[tuple[str, ...]]:
    """Lanes from top to bottom: tasks that share longer stand nearer, and what they share between them."""
    groups = sorted({lane for lane in lanes if 1 < len(lane) < len(tasks)}, key=lambda lane: (-len(lane), lane))
    place = {task: i for i, task in enumerate(tasks)}

    def key(task: str) -> list[int]:
        return [*(min(place[t] for t in group) for group in groups if task in group), place[task]]

    ordered = sorted(tasks, key=key)
    middles = {lane: sum(ordered.index(t) for t in lane) / len(lane) for lane in lanes}
    if tasks in middles:  # between two tasks, not on one
        middles[tasks] = len(tasks) // 2 - 0.5
    last = {lane: max((depth[n] for n, of in of_lane.items() if of == lane), default=0) for lane in lanes}
    return sorted(lanes, key=lambda lane: (middles[lane], last[lane], lane))


def _label(stage: keras.Layer) -> str:
    scope = getattr(stage, "scope", "").split("/")
    if len(scope) > 1:
        kind = {"units": "unit after"}.get(scope[1], scope[1])
        if scope[1].startswith("expert"):
            kind = f"{scope[0]} {scope[1]} {stage.stack[0].name if len(stage.stack) == 1 else ''}"
        elif len(scope) > 2:
            kind = f"{kind} {' '.join(scope[2:])}"
        return kind.replace("_", " ").strip()
    root = scope[0]
    return stage.name.removeprefix(f"{root}_") if root else stage.name


def _lines(label: str, owner: str) -> list[str]:
    """A name on at most two lines of about 18 characters."""
    text = f"{owner} {label}" if owner and not label.startswith(owner) else label
    if len(text) <= 18:
        return [text]
    words, first = text.split(" "), ""
    while words and len(f"{first} {words[0]}") <= 18:
        first = f"{first} {words.pop(0)}".strip()
    rest = " ".join(words)
    return [line if len(line) <= 18 else line[:17] + "…" for line in (first, rest) if line]
