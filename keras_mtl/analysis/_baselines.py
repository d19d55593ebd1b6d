"""Single-task models: the baselines of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl._types import Structure
from keras_mtl.analysis._new_models import networks_of
from keras_mtl.analysis.grouping.grouped_model import GroupedModel
from keras_mtl.models._coefficients import tied_stages
from keras_mtl.models.multi_task_model import MultiTaskModel

if TYPE_CHECKING:
    from keras_mtl.analysis._new_models import NewModels


def alone(model: MultiTaskModel | GroupedModel, task: str, candidate: str | None = None) -> MultiTaskModel:
    """The single-task model of a task, compiled as the whole model was.

    Args:
        model: A compiled `MultiTaskModel`, freshly built, or a `GroupedModel`.
        task: String. The task.
        candidate: String. What to call the model in an error, if its tasks may
            share. Defaults to `None`.

    Returns:
        A `MultiTaskModel` of one task, made of the layers on the way to its
        output, with an optimizer of its own.

    Raises:
        ValueError: If layers of other tasks are on that way.
    """
    model = network_of(model, task)
    inputs = model.sharing.inputs_of(task)
    column = MultiTaskModel(inputs, {task: model.output[task]}, name=f"single_{task}")
    owners = {getattr(layer, "scope", "").split("/")[0] for layer in column.layers} & set(model.tasks)
    if candidate is not None and (owners - {task} or tied_stages(column)):
        raise ValueError(
            "`baselines` should be a function that builds a model whose tasks share nothing, such as "
            f"`hard_sharing(..., shared_depth=0)`, since in candidate '{candidate}' task '{task}' is tied to "
            f"layers of {sorted(owners - {task}) or 'other tasks'}. "
            "Received: baselines='single_task'"
        )
    column.compile(
        optimizer=type(model.optimizer).from_config(model.optimizer.get_config()),
        run_eagerly=model.run_eagerly,
        jit_compile=model.jit_compile,
        steps_per_execution=model.steps_per_execution,
        **model.compiled_tasks.options.of_task(task),
    )
    return column


def check(baselines: Structure, metrics: Mapping[str, Any], candidates: Mapping[str, Any], new: NewModels) -> None:
    """Raises, before anything is trained, where a comparison could not be made.

    Args:
        baselines: As `compare` takes them.
        metrics: Dict from task to a list of metrics.
        candidates: Dict from name to builder.
        new: `NewModels`.
    """
    if isinstance(baselines, dict):
        missing = [f"{task} {m}" for task, of in metrics.items() for m in of if m not in baselines.get(task, {})]
        if missing:
            raise ValueError(f"`baselines` should have every metric of every task. Received: none for {missing}")
    elif callable(baselines):
        for model in (baselines(), baselines()):  # two, since a function may give its one model each time
            check_candidate("single-task", model, metrics)
            new.check("`baselines`", model)
        if model.shared_variables:
            raise ValueError(
                "`baselines` should build a model whose tasks share nothing. Received: shared variables "
                f"{[v.path for v in model.shared_variables][:5]}"
            )
    elif baselines != "single_task":
        raise ValueError(
            "`baselines` should be 'single_task', a function or a dict from task to metric to value. "
            f"Received: baselines={baselines!r}"
        )
    first = next(iter(candidates))
    for name, build in candidates.items():
        for turn in range(2):  # a function may give its one model each time
            model = build()
            check_candidate(name, model, metrics)
            new.check(f"Candidate '{name}'", model)
            for task in metrics if baselines == "single_task" and name == first and turn == 0 else ():
                alone(model, task, name)


def check_candidate(name: str, model: MultiTaskModel, metrics: Mapping[str, Any | Sequence[str]]) -> None:
    """Raises where a builder did not return what a comparison can train."""
    networks = networks_of(model)
    if not all(isinstance(network, MultiTaskModel) and network.compiled for network in networks):
        raise ValueError(f"Candidate '{name}' should return a compiled `MultiTaskModel`. Received: {model!r}")
    missing = [task for task in metrics if task not in model.tasks]
    if missing:
        raise ValueError(f"Candidate '{name}' should have every task of `metrics`. Received: no {missing}")
    logged = {metric.name for network in networks for metric in network.compiled_tasks.task_metrics}
    logged |= {f"{task}_loss" for network in networks for task in network.compiled_tasks.tasks}
    unknown = [f"{task}_{m}" for task, of_task in metrics.items() for m in of_task if f"{task}_{m}" not in logged]
    if unknown:
        raise ValueError(f"Candidate '{name}' should log the metrics. Received: no {unknown}; logs: {sorted(logged)}")


def network_of(model: MultiTaskModel | GroupedModel, task: str) -> MultiTaskModel:
    """The network that serves a task."""
    return model.network_of(task) if isinstance(model, GroupedModel) else model
