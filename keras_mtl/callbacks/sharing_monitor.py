"""Gates and units, logged every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_mtl._types import Structure
from keras_mtl.callbacks._copied import CopiedCallback
from keras_mtl.metrics.gates import dead_experts, gate_utilization
from keras_mtl.metrics.unit_drift import unit_drift
from keras_mtl.models._stage_graph import StageGraph


class SharingMonitor(CopiedCallback):
    """Logs how gates use their experts and how far units have moved.

    At the end of an epoch it adds to the logs, where the model has such parts:

    - `<task>_gate_utilization`, the share of its experts that the task's gate
      uses (`keras_mtl.metrics.gate_utilization`), a mean over the levels of
      gates; `shared_gate_utilization` of gates that belong to no task.
    - `dead_experts`, how many experts no gate uses
      (`keras_mtl.metrics.dead_experts`), over all levels.
    - `<task>_unit_drift`, how far the coefficients of the task's units are
      from where they started (`keras_mtl.metrics.unit_drift`), over all stages.

    Callbacks that read the logs, such as `EarlyStopping` and `TaskBoard`, come
    after it in the list.

    Args:
        x: Inputs as `predict` takes them, for gates that depend on the
            example: their probabilities are means over it. Defaults to `None`.
        dead_below: Float. A gate that gives an expert less than this part of
            its equal share does not use it. Defaults to `0.1`.

    Attributes:
        history: List of dicts, one for each epoch: `epoch`; `gates` and
            `units`, dicts from where their variables are, such as
            `"left/gate"`, to utilization and drift; `dead_experts`, a dict
            from the level's title to a list of names; and `coefficients`, as
            `sharing_coefficients` returns them.

    Raises:
        ValueError: When training begins, if the model has neither gates nor
            units that mix, or a gate needs `x` and there is none.

    Example:

    >>> model = keras_mtl.cross_stitch(
    ...     inputs=keras.Input((4,)),
    ...     stages=[keras.layers.Dense(3)],
    ...     heads={task: keras.layers.Dense(1) for task in "ab"},
    ... )
    >>> model.compile("sgd", loss="mse")
    >>> monitor = keras_mtl.callbacks.SharingMonitor()
    >>> x, y = np.ones((8, 4)), {task: np.ones((8, 1)) for task in "ab"}
    >>> logs = model.fit(x, y, callbacks=[monitor], verbose=0).history
    >>> sorted(name for name in logs if name.endswith("drift"))
    ['a_unit_drift', 'b_unit_drift']
    """

    _of_training = ("_graph", "_gates", "_units")

    def __init__(self, x: Structure | None = None, dead_below: float = 0.1) -> None:
        super().__init__()
        self.x = x
        self.dead_below = dead_below
        self.history = []

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._graph = StageGraph(self.model)
        self.history = []
        mixing = {stage.scope: stage.mixer for stage in self._graph.mixing.values()}
        self._gates = {scope: mixer for scope, mixer in mixing.items() if hasattr(mixer, "num_experts")}
        self._units = {scope: mixer for scope, mixer in mixing.items() if hasattr(mixer, "start_coefficients")}
        if not self._gates and not self._units:
            raise ValueError(
                f"`SharingMonitor` should watch a model with gates or units. Received: '{self.model.name}'"
            )
        waiting = [scope for scope, gate in self._gates.items() if gate.coefficients() is None]
        if waiting and self.x is None:
            raise ValueError(f"`x` should be given, since these gates depend on the example: {waiting}. Received: None")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        coefficients = self._graph.read(self.x)
        gates = {scope: gate_utilization(np.maximum(coefficients[scope], 0.0)) for scope in self._gates}
        units = {
            scope: unit_drift(coefficients[scope], unit.start_coefficients()) for scope, unit in self._units.items()
        }
        dead = self._dead(coefficients)
        self.history.append(
            {"epoch": epoch, "gates": gates, "units": units, "dead_experts": dead, "coefficients": coefficients}
        )
        if logs is None:
            return
        for owner, values in _by_owner(gates).items():
            logs.setdefault(f"{owner}_gate_utilization", float(np.mean(values)))
        for owner, values in _by_owner(units).items():
            logs.setdefault(f"{owner}_unit_drift", float(np.sqrt(np.mean(np.square(values)))))
        if gates:
            logs.setdefault("dead_experts", sum(map(len, dead.values())))

    def _dead(self, coefficients: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
        """Names of the dead experts, by level."""
        titles = {scope.partition("/")[2] for scope in self._gates}
        dead = {}
        for title, (_, experts, values) in self._graph.tables(coefficients).items():
            if title in titles:
                dead[title] = [experts[column] for column in dead_experts(values, self.dead_below)]
        return dead


def _by_owner(values: Mapping[str, npt.ArrayLike]) -> dict[str, list[Any]]:
    grouped = {}
    for scope, value in values.items():
        grouped.setdefault(scope.partition("/")[0], []).append(value)
    return grouped
