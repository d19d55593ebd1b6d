"""Hard sharing: one trunk, a head for each task."""

from __future__ import annotations

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Stages
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights
from keras_mtl.models._stages import add_column, add_shared
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def hard_sharing(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    shared_depth: int | None = None,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a model whose tasks share the first stages and then part.

    The output of task k is `h_k(c_k(phi(x)))`: `phi` are the first
    `shared_depth` stages, shared by all tasks; `c_k` are the task's own copies
    of the others; `h_k` is its head.

    Args:
        inputs: `keras.Input`, or a list or dict of them. The first stage takes
            it as it is.
        stages: List of Keras layers, `Sequential` or `Model` (or lists of
            layers). Shared stages are these very layers; a task's own copies
            are made from their configs, with seeds of their own.
        heads: Dict from task name to a Keras layer or a list of layers.
        shared_depth: Integer from 0 to `len(stages)`. How many stages are
            shared. 0 gives independent single-task columns. Defaults to
            `None`: all stages.
        copy_weights: `None` or boolean. Whether the tasks' copies start from
            the given stages' weights, as pretrained columns do; the stages must
            be built. Defaults to `None`: every copy starts anew, and weights
            that would be lost are refused (see the guide, "What copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel` with a dict of outputs keyed by task.

    Raises:
        ValueError: If there are no tasks, a task's name has a space or `/`, a
            stage or head is not a layer, one does not fit the one before it,
            or `shared_depth` is out of range.

    Example:

    >>> model = keras_mtl.hard_sharing(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(128, activation="relu")],
    ...     heads={
    ...         "main": keras.layers.Dense(10, activation="softmax"),
    ...         "aux": keras.layers.Dense(5, activation="softmax"),
    ...     },
    ... )
    >>> model.tasks
    ('main', 'aux')

    Reference:

    - R. Caruana, "Multitask Learning", Machine Learning 28, 1997.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    depth = check_integer(shared_depth, "shared_depth", 0, len(stacks), or_none=True)
    depth = len(stacks) if depth is None else depth
    copy_weights = check_copy_weights(copy_weights, stacks[depth:], depth)
    features = add_shared(stacks[:depth], inputs)
    columns = {task: add_column(stacks[depth:], features, task, copy_weights, first_index=depth) for task in heads}
    return MultiTaskModel(inputs, add_heads(heads, columns, depends_on), name=name)
