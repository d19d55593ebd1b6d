"""The table of `MultiTaskModel.sharing_summary`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from keras_mtl.models._coefficients import tied_stages
from keras_mtl.models._sharing import count_parameters

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def sharing_table(model: MultiTaskModel) -> str:
    """Text of a table of layers, the tasks that they serve and their sizes.

    Args:
        model: A `MultiTaskModel`.

    Returns:
        String.
    """
    from rich.console import Console
    from rich.table import Table

    sharing, tasks = model.sharing, model.tasks
    table = Table(title=f"Sharing in '{model.name}'", title_justify="left")
    table.add_column("layer")
    table.add_column("parameters", justify="right")
    for task in tasks:
        table.add_column(task, justify="center")
    for layer in sharing.layers:
        served, fed = sharing.tasks_of(layer), sharing.feeds(layer)
        marks = ["●" if task in served else "○" if task in fed else "" for task in tasks]
        table.add_row(layer.name, f"{count_parameters(layer.weights):,}", *marks)
    table.add_section()
    totals = [count_parameters(sharing.weights_of(task)) for task in tasks]
    shared = count_parameters(sharing.weights_of())
    table.add_row("serving the task", f"{count_parameters(model.weights):,}", *(f"{total:,}" for total in totals))
    table.add_row("shared by two tasks or more", f"{shared:,}")
    if any(sharing.tasks_of(layer) != sharing.feeds(layer) for layer in sharing.layers):
        table.add_row("○ takes from it, and does not train it")
    for layer in tied_stages(model):
        if layer.partners[0] == layer.name:
            distance = layer.distance if isinstance(layer.distance, str) else layer.distance.__name__
            table.add_row(f"{', '.join(layer.partners)} tied by {layer.strength:g} × {distance}")
    stream = io.StringIO()
    Console(file=stream, width=200, markup=False, emoji=False, force_jupyter=False).print(table)
    return stream.getvalue()
