"""TensorBoard of a search: HParams with the whole space, and each trial's TaskBoard."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl.callbacks.task_board import TaskBoard
from keras_mtl.tuning.weighting_space import trained_with

if TYPE_CHECKING:
    import keras_tuner

    from keras_mtl.models.multi_task_model import MultiTaskModel


class TrialBoard:
    """Completes what keras-tuner writes for TensorBoard.

    keras-tuner gives each trial's `TensorBoard` callback a directory of its
    own, `<log_dir>/<trial>/execution<n>`, and writes there the hyperparameters
    that were known before the model was built. This writes the whole space and
    the metrics once, at the top, and the trial's values as they are after the
    build.

    Args:
        task_board: Dict of options of `TaskBoard`, or `False`.
    """

    def __init__(self, task_board: Mapping[str, Any] | bool) -> None:
        self._task_board = task_board
        self._announced = set()

    def callbacks(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        callbacks: list[keras.callbacks.Callback],
        objectives: Collection[str] = (),
    ) -> list[keras.callbacks.Callback]:
        """The callbacks of a trial, completed.

        Args:
            hp: `keras_tuner.HyperParameters`.
            model: The compiled model.
            callbacks: List of callbacks, with those of keras-tuner.
            objectives: Collection of logs that are metrics of the search too.

        Returns:
            List of callbacks.
        """
        callbacks = list(callbacks)
        boards = [c for c in callbacks if isinstance(c, keras.callbacks.TensorBoard)]
        trials = [callback.trial.trial_id for callback in callbacks if hasattr(callback, "trial")]
        if not boards or not trials:
            return callbacks
        from tensorboard.plugins.hparams import api

        directory = str(boards[0].log_dir)
        root = os.path.dirname(os.path.dirname(directory))
        if root not in self._announced:
            _write_space(api, root, hp, model, objectives)
            self._announced.add(root)
        values = trained_with(dict(hp.values), not model.shared_variables)
        callbacks = [callback for callback in callbacks if type(callback) is not api.KerasCallback]
        callbacks.append(api.KerasCallback(writer=directory, hparams=values, trial_id=trials[0]))
        if self._task_board is not False:
            callbacks.append(TaskBoard(directory, **self._task_board))  # type: ignore[arg-type]
        return callbacks


def _write_space(
    api: ModuleType, root: str, hp: keras_tuner.HyperParameters, model: MultiTaskModel, objectives: Collection[str]
) -> None:
    import tensorflow as tf

    compiled = model.compiled_tasks
    logs = [f"{task}_loss" for task in compiled.tasks] + [metric.name for metric in compiled.task_metrics]
    logs = logs if compiled.delta_m is None else ["delta_m", *logs]
    chosen_by = [name.removeprefix("val_") for name in objectives if name.startswith("val_")]
    groups = {"validation": [*chosen_by, *(log for log in logs if log not in chosen_by)], "train": logs}
    metrics = [
        api.Metric(f"epoch_{log}", group=group, display_name=("val_" if group == "validation" else "") + log)
        for group, of_group in groups.items()
        for log in of_group
    ]
    with tf.summary.create_file_writer(root).as_default():
        api.hparams_config(hparams=[_hparam(api, p) for p in hp.space], metrics=metrics)


def _hparam(api: ModuleType, parameter: keras_tuner.engine.hyperparameters.HyperParameter) -> object:
    config = parameter.get_config()
    kind = type(parameter).__name__
    if kind == "Choice":
        domain = api.Discrete(config["values"])
    elif kind == "Boolean":
        domain = api.Discrete([True, False])
    elif kind == "Fixed":
        domain = api.Discrete([config["value"]])
    else:
        interval = api.IntInterval if kind == "Int" else api.RealInterval
        domain = interval(config["min_value"], config["max_value"])
    return api.HParam(parameter.name, domain)
