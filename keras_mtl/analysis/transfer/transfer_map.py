"""Trains source networks and transfers between tasks, and measures which help."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import as_list, check_boolean, check_integer
from keras_mtl._types import Data, Layers, Structure, Tasks
from keras_mtl.analysis._progress import run_bar
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.grouping.grouped_model import build_groups
from keras_mtl.analysis.representation_similarity import stages_to
from keras_mtl.analysis.transfer.ahp import ahp, win_rates
from keras_mtl.analysis.transfer.result import TransferMap
from keras_mtl.models._copies import copy_layer, keep_state
from keras_mtl.models._stages import add_head
from keras_mtl.models.multi_task_model import MultiTaskModel

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.grouped_model import GroupedModel


def transfer_map(
    builder: Callable[[list[str]], MultiTaskModel],
    data: Data,
    *,
    validation: Data,
    tasks: Sequence[str],
    fraction: float = 0.05,
    max_sources: int = 1,
    beam: int = 3,
    readout: Callable[[str], Layers] | None = None,
    epochs: int = 10,
    transfer_epochs: int = 50,
    batch_size: int = 32,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> TransferMap:
    """Finds out from which tasks' features the others can be learned.

    1. For every task, a source network is trained on all data.
    2. For every source s and target t, s itself included, a readout of t is
       trained on the frozen features of s, with few examples.
    3. For orders above 1, readouts are trained on the features of several
       sources together: of each target's `beam` best single ones, every set.
    4. For each target, the transfers are compared on every validation example,
       and `ahp` turns who beats whom into affinities that sum to 1.

    Args:
        builder: Function from a list of tasks to a compiled `MultiTaskModel`
            of these tasks. It is called with one task at a time.
        data: Training data: arrays `(x, y)`.
        validation: Data to compare transfers on, as `data`.
        tasks: List of tasks, sources and targets alike.
        fraction: Float above 0, at most 1. The part of the training examples that
            readouts learn from. Defaults to `0.05`.
        max_sources: Integer. The most sources of a transfer. Defaults to `1`.
        beam: Integer. How many sources of a target are combined. Defaults to
            `3`.
        readout: Function from a target to a Keras layer or list of layers, on
            features that are concatenated along their last axis. Defaults to
            `None`: the head of the target's own network, made anew.
        epochs: Integer. For source networks. Defaults to `10`.
        transfer_epochs: Integer. For readouts. Defaults to `50`.
        batch_size: Integer. Defaults to `32`.
        seed: Integer. Defaults to `0`.
        directory: Path of a folder. Finished networks and transfers are kept
            there, and those that nothing could have changed are read, as in
            `compare`. Defaults to `None`.
        progress: Boolean. Whether to show progress. Defaults to `True`.
        **fit_options: Further arguments of `fit`.

    Returns:
        A `TransferMap`.

    Raises:
        ValueError: If an argument is out of range, or features cannot be
            concatenated.

    Reference:

    - A. R. Zamir et al., "Taskonomy: Disentangling Task Transfer Learning", CVPR 2018.

    Deviations: features are read out by the target's head, in place of the
    paper's convolutional transfer networks, and combined exhaustively in the
    beam at every order.
    """
    check_boolean(progress, "progress")
    tasks = list(tasks)
    _check(tasks, fraction, max_sources, beam)
    x, y = data
    keras.utils.set_random_seed(seed)
    sources = build_groups([[task] for task in tasks], builder)
    kept = None if directory is None else f"{directory}/sources"
    sources.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=int(progress), directory=kept, **fit_options)
    few = np.random.default_rng(seed).permutation(_count(x))[: max(1, round(fraction * _count(x)))]
    fit = {"epochs": transfer_epochs, "batch_size": batch_size}
    transfers = _Transfers(sources, data, validation, tasks, few, readout, fit, seed, directory)  # type: ignore[arg-type]
    transfers.train([((source,), target) for target in tasks for source in tasks], "transfers", progress)
    if max_sources > 1:
        combined = _combinations(transfers.affinities(), tasks, max_sources, beam)
        transfers.train(combined, "transfers of several", progress)
    transfers.store.say(progress)
    means = {edge: float(np.mean(values)) for edge, values in transfers.losses.items()}
    return TransferMap(tasks, transfers.affinities(), means)


class _Transfers:
    """Readouts that are trained on the features of source networks, and what they lose on each example.

    Args:
        sources: `GroupedModel` of a trained network for each task.
        data: Training data.
        validation: Validation data.
        tasks: List of tasks.
        few: Array. The training examples that readouts see.
        readout: As in `transfer_map`.
        fit: Dict of `epochs` and `batch_size`.
        seed: Integer.
        directory: Path of a folder, or `None`.
    """

    def __init__(
        self,
        sources: GroupedModel,
        data: Data,
        validation: Data,
        tasks: Tasks,
        few: np.ndarray,
        readout: Callable[[str], Layers] | None,
        fit: Mapping[str, int],
        seed: int,
        directory: str | os.PathLike,
    ) -> None:
        (x, y), (val_x, self._val_y) = data, validation
        self._tasks, self._networks, self._readout, self._fit, self._seed = tasks, sources, readout, fit, seed
        few_x = keras.tree.map_structure(lambda a: np.asarray(a)[few], x)
        self._labels = {task: np.asarray(y[task])[few] for task in tasks}
        self._features, self._val_features = {}, {}
        for task in tasks:
            network = sources.network_of(task)
            encoder = keras.Model(network.input, stages_to(network, task)[-1].output)
            self._features[task] = encoder.predict(few_x, batch_size=256, verbose=0)
            self._val_features[task] = encoder.predict(val_x, batch_size=256, verbose=0)
        self.store = RunStore(directory, seed=seed, few=few, labels=(y, val_x, self._val_y), **fit)  # type: ignore[arg-type]
        self._known = {task: self._known_by(task) for task in tasks}
        self.losses = {}

    def _known_by(self, task: str) -> str | None:
        """What transfers from and to a task depend on: its network as it was trained, and its readout."""
        stack = None if self._readout is None else as_list(self._readout(task))
        if not self.store.keeps:
            return None
        return self.store.digest(network=self._networks.network_of(task), features=self._features[task], readout=stack)

    def train(self, edges: Sequence[tuple[tuple[str, ...], str]], title: str, progress: bool) -> None:
        """Trains transfers, or reads them.

        Args:
            edges: List of pairs of a tuple of sources and a target.
            title: String. Of the progress bar.
            progress: Boolean.
        """
        with self.store, run_bar(title, len(edges), progress) as begin:
            for edge, target in edges:
                begin(f"{' + '.join(edge)} to {target}")
                key = self.store.key(
                    sources=[self._known[source] for source in edge], target=[self._known[target], target]
                )
                run = self.store.load(key, {"losses": list}, check=lambda run: np.asarray(run["losses"], "float64"))
                if run is None:
                    run = {"losses": self._trained(edge, target)}
                    self.store.save(key, f"{'+'.join(edge)} to {target}-seed{self._seed}", run)
                self.losses[edge, target] = np.asarray(run["losses"], "float64")
            begin()

    def _trained(self, edge: tuple[str, ...], target: str) -> list[float]:
        keras.utils.set_random_seed(self._seed)
        model = _readout_of(self._networks.network_of(target), target, edge, self._features, self._readout)
        inputs, val_inputs = (_together(f, edge) for f in (self._features, self._val_features))
        model.fit(inputs, {target: self._labels[target]}, verbose=0, **self._fit)  # type: ignore[arg-type]
        return _example_losses(model, target, val_inputs, self._val_y[target])

    def affinities(self) -> dict[tuple[tuple[str, ...], str], float]:
        """Affinities of all transfers, normalized for each target."""
        found = {}
        for target in self._tasks:
            edges = [edge for edge in self.losses if edge[1] == target]
            values = ahp(win_rates(np.stack([self.losses[edge] for edge in edges])))
            found.update(zip(edges, values.tolist(), strict=True))
        return found


def _combinations(
    affinities: Mapping[tuple[tuple[str, ...], str], float], tasks: Tasks, max_sources: int, beam: int
) -> list[tuple[tuple[str, ...], str]]:
    """Transfers from several of the sources that are best by themselves."""
    combined = []
    for target in tasks:
        by_affinity = {source: affinities[(source,), target] for source in tasks}
        best = sorted(tasks, key=by_affinity.__getitem__, reverse=True)[:beam]
        for count in range(2, max_sources + 1):
            combined += [(tuple(sorted(c, key=tasks.index)), target) for c in itertools.combinations(best, count)]  # type: ignore[attr-defined]
    return combined


def _count(x: Structure) -> int:
    """The number of examples."""
    return len(keras.tree.flatten(x)[0])


def _check(tasks: Tasks, fraction: float, max_sources: int, beam: int) -> None:
    if len(tasks) < 2 or len(set(tasks)) != len(tasks):
        raise ValueError(f"`tasks` should be two different tasks or more. Received: tasks={tasks}")
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` should be above 0 and at most 1. Received: fraction={fraction!r}")
    max_sources = check_integer(max_sources, "max_sources", least=1)
    if max_sources > min(beam, len(tasks)):
        raise ValueError(
            "`max_sources` should be at most `beam` and the number of tasks. "
            f"Received: max_sources={max_sources!r}, beam={beam!r}, {len(tasks)} tasks"
        )


def _together(features: Mapping[str, np.ndarray], sources: Sequence[str]) -> np.ndarray:
    shapes = {source: features[source].shape for source in sources}
    if len({shape[:-1] for shape in shapes.values()}) != 1:
        raise ValueError(f"Features of several sources should differ in their last axis alone. Received: {shapes}")
    return np.concatenate([features[source] for source in sources], axis=-1)


def _readout_of(
    network: MultiTaskModel,
    target: str,
    sources: Sequence[str],
    features: Mapping[str, np.ndarray],
    readout: Callable[[str], Layers] | None,
) -> MultiTaskModel:
    """A compiled model from features to one target."""
    inputs = keras.Input(_together(features, sources).shape[1:])
    if readout is None:
        given = network.get_layer(target).stack
        stack = [copy_layer(layer, tag="+".join(sources)) for layer in given]
    else:
        stack = as_list(readout(target))
    model = MultiTaskModel(inputs, {target: add_head(stack, inputs, target)})
    if readout is None and len(sources) == 1:  # features of several are wider than those the head was made for
        keep_state(given, stack)
    optimizer = type(network.optimizer).from_config(network.optimizer.get_config())
    model.compile(
        optimizer,
        run_eagerly=network.run_eagerly,
        jit_compile=network.jit_compile,
        steps_per_execution=network.steps_per_execution,
        **network.compiled_tasks.options.of_task(target),
    )
    return model


def _example_losses(model: MultiTaskModel, target: str, inputs: np.ndarray, labels: np.ndarray) -> list[float]:
    """The target's loss on each labelled example, as a list."""
    predicted = model.predict(inputs, batch_size=256, verbose=0)[target]
    task_losses = model.compiled_tasks.task_losses
    missing = task_losses.missing.get(target)
    labels = np.asarray(labels)
    if missing is None:
        known = np.ones(len(labels), bool)
    else:
        here = ~np.isnan(labels) if missing == "nan" else labels != missing
        known = here.reshape(len(labels), -1).all(axis=1)
    y_true, y_pred = (ops.convert_to_tensor(a[known]) for a in (labels, predicted))
    if len(y_true.shape) < len(y_pred.shape) and y_pred.shape[-1] == 1:
        y_true = y_true[..., None]
    values = ops.convert_to_numpy(task_losses.losses[target].call(y_true, y_pred))
    return values.reshape(len(values), -1).mean(axis=1).astype("float64").tolist()
