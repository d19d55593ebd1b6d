"""The networks of a grouping, trained and evaluated as one model."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt

from keras_mtl._files import readable, writable_folder
from keras_mtl._keras_private import global_seed
from keras_mtl._types import Callbacks, Data, Structure
from keras_mtl.analysis._new_models import NewModels
from keras_mtl.analysis._progress import run_bar
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.grouping._histories import merge_histories
from keras_mtl.analysis.grouping._select import labels_of_tasks
from keras_mtl.analysis.grouping.grouping import Grouping
from keras_mtl.models.multi_task_model import MultiTaskModel


def build_groups(
    grouping: Grouping | Sequence[Sequence[str]], builder: Callable[[list[str]], MultiTaskModel]
) -> GroupedModel:
    """Builds the networks of a grouping.

    Args:
        grouping: `Grouping`, or a list of lists of tasks.
        builder: Function from a list of tasks to a compiled `MultiTaskModel`
            of these tasks. It is called once for each group.

    Returns:
        A `GroupedModel`.

    Raises:
        ValueError: If the builder returns anything else, a model of other
            tasks, or one that is not new.

    Example:

    >>> def builder(tasks):
    ...     heads = {task: keras.layers.Dense(1) for task in tasks}
    ...     model = keras_mtl.hard_sharing(keras.Input((4,)), [keras.layers.Dense(3)], heads)
    ...     model.compile("sgd", loss="mse")
    ...     return model
    >>> model = keras_mtl.analysis.build_groups([["a", "b"], ["c"]], builder)
    >>> x, y = np.ones((8, 4)), {task: np.ones((8, 1)) for task in "abc"}
    >>> history = model.fit(x, y, verbose=0)
    >>> sorted(model.predict(x, verbose=0))
    ['a', 'b', 'c']
    """
    grouping = grouping if isinstance(grouping, Grouping) else Grouping(grouping)
    networks, new = [], NewModels()
    for group in grouping.groups:
        network = builder(list(group))
        if not isinstance(network, MultiTaskModel) or not network.compiled or set(network.tasks) != set(group):
            tasks = list(getattr(network, "tasks", ()))
            raise ValueError(
                f"`builder` should return a compiled `MultiTaskModel` of the tasks it is given, {list(group)}. "
                f"Received: {type(network).__name__} of tasks {tasks}"
            )
        new.check("`builder`", network)
        networks.append(network)
    return GroupedModel(grouping, networks)


class GroupedModel:
    """Several networks that train, predict and are evaluated as one.

    A task that several networks train is served by one of them: predictions,
    metrics and logs of the task are that network's. Networks are trained one
    after the other.

    Args:
        grouping: `Grouping`.
        networks: List of compiled `MultiTaskModel`, one for each group.
    """

    def __init__(self, grouping: Grouping, networks: Sequence[MultiTaskModel]) -> None:
        self.grouping = grouping
        self.networks = list(networks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tuple of the tasks."""
        return self.grouping.tasks

    @property
    def shared_variables(self) -> list[keras.Variable]:
        """Trainable variables that two tasks of a network or more reach."""
        return [variable for network in self.networks for variable in network.shared_variables]

    @property
    def layers(self) -> list[keras.Layer]:
        """The layers of all networks."""
        return [layer for network in self.networks for layer in network.layers]

    def count_params(self) -> int:
        """Number of the scalars in all networks."""
        return sum(network.count_params() for network in self.networks)

    def network_of(self, task: str) -> MultiTaskModel:
        """The network that serves a task."""
        if task not in self.tasks:
            raise ValueError(f"`task` should be one of {self.tasks}. Received: task={task!r}")
        return self.networks[self.grouping.serves[task]]

    def fit(
        self,
        x: Data | None = None,
        y: Mapping[str, npt.ArrayLike] | None = None,
        *,
        epochs: int = 1,
        sample_weight: Structure | None = None,
        validation_data: Data | None = None,
        callbacks: Callbacks | None = (),
        directory: str | os.PathLike | None = None,
        verbose: int | str = "auto",
        **options: Any,
    ) -> keras.callbacks.History:
        """Trains the networks, each on the labels of its own tasks.

        Args:
            x: As in Keras: arrays, or a data set.
            y: Dict from task to labels.
            epochs: Integer. Defaults to `1`.
            sample_weight: As in Keras. Defaults to `None`.
            validation_data: As in Keras. Defaults to `None`.
            callbacks: List of callbacks that see every network's training in
                turn, or a function from a list of tasks to such a list.
            directory: Path of a folder. Finished networks are kept there, with
                their weights. Those that nothing could have changed are read,
                as in `keras_mtl.analysis.compare`, so a `fit` that was killed
                goes on with the others. Trainable initial weights of untrained
                networks may differ, the seed of `keras.utils.set_random_seed`
                may not. Defaults to `None`.
            verbose: `0`, or anything else for a bar that moves with every
                network. Defaults to `"auto"`.
            **options: Further arguments of Keras' `fit`.

        Returns:
            A `keras.callbacks.History`. `history` holds every task's logs from
            the network that serves it, and `loss`, the sum of the tasks'
            losses times their static weights.
        """
        data = x if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)
        histories = []
        settings: dict[str, Any] = {"data": (data, validation_data), "epochs": epochs, "fit": options}
        store = RunStore(directory, initial_weights=False, seed=global_seed(), **settings)
        with store, run_bar("groups", len(self.networks), verbose != 0) as begin:
            for place, network in enumerate(self.networks):
                begin(", ".join(network.tasks))
                watching = [*(callbacks(list(network.tasks)) if callable(callbacks) else callbacks or ())]
                key = store.key(model=network, callbacks=watching)
                run = store.load(key, {"history": dict}, network, check=_check_history)
                if run is not None:
                    histories.append(run["history"])
                    continue
                history = network.fit(
                    **_arguments(labels_of_tasks(data, network.tasks)),
                    epochs=epochs,
                    validation_data=labels_of_tasks(validation_data, network.tasks),
                    callbacks=watching,
                    verbose=0,
                    **options,
                ).history
                if store.keeps:
                    history = {name: [float(v) for v in values] for name, values in history.items()}
                    store.save(key, f"network{place}", {"history": history}, network)
                histories.append(history)
            begin()
        store.say(verbose)
        history = keras.callbacks.History()
        history.history = merge_histories(histories, self.grouping, self._static_weights())
        history.epoch = list(range(len(next(iter(history.history.values()), ()))))
        return history

    def predict(self, x: Data, **options: Any) -> dict[str, np.ndarray]:
        """Every task's predictions, by the network that serves it.

        Args:
            x: As in Keras.
            **options: Further arguments of Keras' `predict`.

        Returns:
            Dict from task to array.
        """
        outputs = [network.predict(x, **options) for network in self.networks]
        return {task: outputs[place][task] for task, place in self.grouping.serves.items()}

    def evaluate(
        self,
        x: Data | None = None,
        y: Mapping[str, npt.ArrayLike] | None = None,
        *,
        sample_weight: Structure | None = None,
        return_dict: bool = False,
        **options: Any,
    ) -> dict[str, float] | list[float]:
        """Every task's loss and metrics, by the network that serves it.

        Args:
            x: As in Keras.
            y: Dict from task to labels.
            sample_weight: As in Keras. Defaults to `None`.
            return_dict: Boolean. Whether to return a dict with the names.
                Defaults to `False`.
            **options: Further arguments of Keras' `evaluate`.

        Returns:
            Dict from log to number, or the list of the numbers.
        """
        data = x if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)
        logs = []
        for network in self.networks:
            part = _arguments(labels_of_tasks(data, network.tasks))
            logs.append({k: [v] for k, v in network.evaluate(**part, return_dict=True, **options).items()})
        values = {
            name: series[0] for name, series in merge_histories(logs, self.grouping, self._static_weights()).items()
        }
        return values if return_dict else list(values.values())

    def save(self, path: str | os.PathLike) -> None:
        """Writes every network, and the grouping, to a folder."""
        folder = writable_folder(path, "path")
        # It goes first and comes last: with it, all networks are there and belong together.
        (folder / "grouping.json").unlink(missing_ok=True)
        for place, network in enumerate(self.networks):
            network.save(folder / f"network{place}.keras")
        self.grouping.save(folder / "grouping.json")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads what `save` wrote, ready to predict or to train on.

        Raises:
            ValueError: If the folder is not whole, or a file is damaged.
        """
        folder = pathlib.Path(path)
        if not (folder / "grouping.json").exists():
            raise ValueError(
                f"`path` should be a folder that `save` has written to the end. Received: {str(path)!r}, without "
                "'grouping.json'"
            )
        grouping = Grouping.load(folder / "grouping.json")
        networks = []
        for place in range(len(grouping.groups)):
            with readable(folder / f"network{place}.keras", "a saved network"):
                networks.append(keras.models.load_model(folder / f"network{place}.keras"))
        return cls(grouping, networks)

    def _static_weights(self) -> dict[str, float]:
        return {task: self.network_of(task).task_weights().get(task, 0.0) for task in self.tasks}


def _check_history(run: Mapping[str, Mapping[str, Sequence[float] | int | str] | str]) -> None:
    shapes = {np.asarray(values, "float64").shape for values in run["history"].values()}
    if len(shapes) != 1 or len(shapes.pop()) != 1:
        raise ValueError("its `history` is no lists of one length")


def _arguments(data: Data) -> dict[str, Any]:
    return dict(zip(("x", "y", "sample_weight"), data if isinstance(data, tuple) else (data,), strict=False))
