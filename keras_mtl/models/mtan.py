"""MTAN: tasks attend to the features of a shared trunk."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_mtl._checks import check_boolean, check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages, Tensor
from keras_mtl.layers import AttentionMask, Stage
from keras_mtl.models._arguments import as_stack, check_heads, check_inputs, check_stages
from keras_mtl.models._copies import copy_stack, keep_state
from keras_mtl.models._stages import add_unit, call_stage, stage_label
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel

_BY_RANK = {
    3: (layers.Conv1D, layers.MaxPooling1D, layers.UpSampling1D, layers.GlobalAveragePooling1D),
    4: (layers.Conv2D, layers.MaxPooling2D, layers.UpSampling2D, layers.GlobalAveragePooling2D),
    5: (layers.Conv3D, layers.MaxPooling3D, layers.UpSampling3D, layers.GlobalAveragePooling3D),
}


def mtan(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    hidden: int | None = None,
    batch_normalization: bool = True,
    task_stage: Layers | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    r"""Builds a multi-task attention network on a shared trunk.

    Stage j of the trunk gives a first feature `u_j`, before its last layer,
    and a second one `p_j`, after it. Task k goes along with

    ```math
    a_{kj} = \sigma(\mathrm{BN}(W_2 \, \mathrm{relu}(\mathrm{BN}(W_1 [u_j; r(e_{k,j-1})]))))
    ```

    ```math
    e_{kj} = \mathrm{relu}(\mathrm{BN}(C \, (a_{kj} * p_j)))
    ```

    with 1×1 convolutions `W` and a 3×3 convolution `C` of the task's own;
    `r` pools or repeats the task's feature to the size of `u_j`, and `e_k0` is
    left out. The head takes the last `e_kj`. After dense stages, `W` and `C`
    are dense layers; after sequences, `C` is a convolution of width 3.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of stages, all shared. Best each a list of layers that
            ends with a layer that keeps the size: `[pool, conv, conv]`. A
            stage of one layer has `u_j = p_j`. Channels last.
        heads: Dict from task name to a Keras layer or a list of layers.
        hidden: Integer. Channels within a mask. Defaults to `None`: those of
            `p_j`.
        batch_normalization: Boolean. Whether masks and task convolutions have
            batch normalization. Defaults to `True`.
        task_stage: `None`, a Keras layer or a list of layers in the place of
            `C`, batch normalization and relu; every task and stage gets its
            own copies. Defaults to `None`.
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. `sharing_coefficients(x)` gives each
        mask's mean over `x`, channel by channel.

    Raises:
        ValueError: If a stage changes the size between `u_j` and `p_j`, or a
            task's feature cannot be pooled or repeated to the next one's size.

    Example:

    >>> model = keras_mtl.mtan(
    ...     inputs=keras.Input((8, 8, 3)),
    ...     stages=[
    ...         [keras.layers.Conv2D(4, 3, padding="same"), keras.layers.Conv2D(4, 3, padding="same")],
    ...         [keras.layers.MaxPooling2D(), keras.layers.Conv2D(8, 3, padding="same")],
    ...     ],
    ...     heads={"depth": keras.layers.Conv2D(1, 1), "label": keras.layers.Conv2D(5, 1)},
    ... )
    >>> model.output["depth"].shape
    (None, 4, 4, 1)

    Reference:

    - S. Liu, E. Johns, A. Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019.

    Deviations: any trunk, not SegNet alone. `C` comes before the pooling, as
    in the paper, which happens where the next stage needs it.
    """
    check_boolean(batch_normalization, "batch_normalization")
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    given = None if task_stage is None else as_stack(task_stage, "`task_stage`")
    hidden = check_integer(hidden, "hidden", 1, or_none=True)
    if not stacks:
        raise ValueError("`stages` should hold at least one stage to attend to. Received: stages=[]")
    trunk, features = inputs, dict.fromkeys(heads)
    for index, stack in enumerate(stacks):
        label = stage_label(stack, index)
        first, second = _place_trunk(stack, trunk, index)
        trunk = second
        for task in heads:
            seen = [first]
            if features[task] is not None:
                seen.append(_resize(features[task], first, f"{task}_resize_{label}"))
            mask = AttentionMask(second.shape[-1], hidden, batch_normalization, name="attention")
            mask = add_unit(mask, seen, f"{task}/attention/{label}")
            masked = layers.Multiply(name=f"{task}_masked_{label}")([mask, second])
            scope = f"{task}/features/{label}"
            own = copy_stack(given, scope, "`task_stage`") if given else _task_stage(masked, batch_normalization)
            stage = Stage(own, scope=scope, name=f"{task}_features_{label}")
            features[task] = call_stage(stage, masked, f"`task_stage` of task '{task}' after `stages[{index}]`")
            keep_state(given or own, own)
    outputs = add_heads(heads, features, depends_on)
    return MultiTaskModel(inputs, outputs, name=name)


def _place_trunk(
    stack: Sequence[keras.Layer], tensor: keras.KerasTensor, index: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The first and the second feature of a shared stage."""
    parts = {"": stack} if len(stack) == 1 else {"_first": stack[:-1], "_second": stack[-1:]}
    given = []
    for ending, part in parts.items():
        stage = Stage(part, scope="shared", name=f"shared_{stage_label(stack, index)}{ending}")
        tensor = call_stage(stage, tensor, f"`stages[{index}]`")
        if not isinstance(tensor, keras.KerasTensor):
            raise ValueError(f"`stages[{index}]` should return one tensor. Received: {tensor}")
        given.append(tensor)
    first, second = given[0], given[-1]
    if first.shape[1:-1] != second.shape[1:-1]:
        raise ValueError(
            f"The last layer of `stages[{index}]` should keep the size of what it takes, so that a mask made before it "
            f"fits what it returns. Received: {first.shape} and {second.shape}. Put pooling and strides first in the "
            "next stage."
        )
    return first, second


def _task_stage(tensor: Tensor, batch_normalization: bool) -> list[keras.Layer]:
    width, rank = tensor.shape[-1], len(tensor.shape)
    options = {"use_bias": not batch_normalization, "name": "project"}
    project = layers.Dense(width, **options)
    if rank > 2:
        project = _BY_RANK[rank][0](width, 3, padding="same", **options)
    normalization = [layers.BatchNormalization(name="normalization")] if batch_normalization else []
    return [project, *normalization, layers.ReLU(name="relu")]


def _resize(tensor: Tensor, target: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Pools or repeats a task's feature to the size of a trunk feature."""
    sizes, wanted = tensor.shape[1:-1], target.shape[1:-1]
    if sizes == wanted:
        return tensor
    if not wanted:
        return _BY_RANK[len(tensor.shape)][3](name=name)(tensor)
    if len(sizes) == len(wanted) and None not in (*sizes, *wanted):
        _, pool, repeat, _ = _BY_RANK[len(tensor.shape)]
        for padding in ("valid", "same"):
            factors = [_factor(size, want, padding) for size, want in zip(sizes, wanted, strict=True)]
            if None not in factors:
                return pool(tuple(factors), padding=padding, name=name)(tensor)
        if all(want % size == 0 for size, want in zip(sizes, wanted, strict=True)):
            factors = tuple(want // size for size, want in zip(sizes, wanted, strict=True))
            return repeat(factors if len(factors) > 1 else factors[0], name=name)(tensor)
    raise ValueError(
        f"A task's feature of shape {tensor.shape} should fit the trunk's next one, of shape {target.shape}, by "
        "pooling or repeating whole steps; sizes have to be known."
    )


def _factor(size: int, wanted: int, padding: str) -> int | None:
    for factor in range(1, size + 1):
        if (size // factor if padding == "valid" else -(-size // factor)) == wanted:
            return factor
    return None
