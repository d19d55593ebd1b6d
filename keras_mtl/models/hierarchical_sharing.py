"""Hierarchical sharing: low-level tasks stand at lower stages."""

from __future__ import annotations

from collections.abc import Mapping

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Stages, Tasks
from keras_mtl.layers import Stage
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._stages import call_stage, stage_label
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def hierarchical_sharing(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    depths: Mapping[str, int],
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a model with one trunk and heads at different stages of it.

    The output of task k is `h_k(s_d(...s_1(x)))` with `d = depths[k]`: its head
    takes what the first d stages return. A low-level task, such as parts of
    speech below syntax, trains the lower stages alone and leaves the upper
    ones to the tasks above it.

    Args:
        inputs: `keras.Input`, or a list or dict of them. The first stage takes
            it as it is.
        stages: List of Keras layers, `Sequential` or `Model` (or lists of
            layers). The trunk is made of these very layers.
        heads: Dict from task name to a Keras layer or a list of layers.
        depths: Dict from task to an integer from 1 to `len(stages)`: after how
            many stages its head stands. Tasks that are left out stand after
            the last one.
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. Variables of a stage are `shared/...`
        where it serves all tasks, `shared/<task>_and_<task>/...` where it
        serves several, and `<task>/...` where one is left.

    Raises:
        ValueError: If `depths` names an unknown task or a depth out of range,
            or no task stands after the last stage.

    Example:

    >>> model = keras_mtl.hierarchical_sharing(
    ...     inputs=keras.Input((None, 16)),
    ...     stages=[keras.layers.GRU(8, return_sequences=True, name=name) for name in ("low", "high")],
    ...     heads={"pos": keras.layers.Dense(17, name="out"), "chunk": keras.layers.Dense(11, name="out")},
    ...     depths={"pos": 1},
    ...     depends_on={"chunk": keras_mtl.Dependency("pos", through=keras.layers.Dense(4, name="label"))},
    ... )
    >>> [v.path for v in model.trainable_variables if v.path.endswith("/kernel")]
    ['shared/low/gru_cell/kernel', 'pos/out/kernel', 'chunk/high/gru_cell/kernel', 'chunk/from_pos/label/kernel',
     'chunk/out/kernel']

    References:

    - A. Søgaard, Y. Goldberg, "Deep Multi-task Learning with Low Level Tasks Supervised at Lower Layers", ACL 2016.
    - K. Hashimoto et al., "A Joint Many-Task Model: Growing a Neural Network for Multiple NLP Tasks", EMNLP 2017
      (`depends_on` with embeddings of labels).

    Deviations: embeddings of a lower task's labels enter the head that depends
    on it, not a stage of the trunk; layers that should see them, such as a
    recurrent one, stand in that head. There is no successive regularization.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    depths = _check_depths(depths, tuple(heads), len(stacks))
    tensor, features = inputs, {}
    for index, stack in enumerate(stacks):
        served = [task for task in heads if depths[task] > index]
        scope = "shared" if len(served) == len(heads) else f"shared/{'_and_'.join(served)}"
        scope = served[0] if len(served) == 1 < len(heads) else scope
        stage = Stage(stack, scope=scope, name=f"{scope.replace('/', '_')}_{stage_label(stack, index)}")
        tensor = call_stage(stage, tensor, f"`stages[{index}]`")
        features.update({task: tensor for task in served if depths[task] == index + 1})
    return MultiTaskModel(inputs, add_heads(heads, features, depends_on), name=name)


def _check_depths(depths: Mapping[str, int] | None, tasks: Tasks, count: int) -> dict[str, int]:
    if not count:
        raise ValueError("`stages` should have at least one stage for tasks to stand after. Received: stages=[]")
    if not isinstance(depths, dict):
        raise ValueError(f"`depths` should be a dict from task to a number of stages. Received: depths={depths!r}")
    unknown = [task for task in depths if task not in tasks]
    if unknown:
        raise ValueError(f"The keys of `depths` should be tasks: {list(tasks)}. Received: {unknown}")
    depths = {task: check_integer(depths.get(task, count), f"depths['{task}']", 1, count) for task in tasks}
    if max(depths.values()) < count:
        raise ValueError(
            f"A task should stand after the last of the {count} stages, or the stage serves none. Received: "
            f"depths={depths}"
        )
    return depths
