"""Placing stages and heads: shared ones as they are, columns as fresh copies."""

import copy
import zlib

import keras

from keras_mtl.layers import Stage
from keras_mtl.layers.stage import name_scope


def stage_label(stack, index):
    """Name of a stage within its owner: its layer's, or its place in the row."""
    return stack[0].name if len(stack) == 1 else f"stage_{index + 1}"


def place_shared(stacks, tensor, first_index=0):
    """Calls stages one after the other as the shared trunk.

    Args:
        stacks: List of lists of layers.
        tensor: Keras tensor, or a structure of them, that the first one takes.
        first_index: Integer. Place of the first stage in the trunk.

    Returns:
        The output of the last stage.
    """
    for index, stack in enumerate(stacks, start=first_index):
        stage = Stage(stack, scope="shared", name=f"shared_{stage_label(stack, index)}")
        tensor = call_stage(stage, tensor, f"`stages[{index}]`")
    return tensor


def place_column(stacks, tensor, scope, copy_weights=False, first_index=0, make=Stage):
    """Calls fresh copies of stages one after the other as a column or an expert.

    Args:
        stacks: List of lists of layers.
        tensor: Keras tensor, or a structure of them, that the first one takes.
        scope: String. The owner of the copies: a task, a branch or an expert.
        copy_weights: Boolean. Whether the copies start from the weights of
            the given layers. Defaults to `False`.
        first_index: Integer. Place of the first stage in the trunk.
        make: Function that makes the stage from layers, `scope` and `name`.
            Defaults to `Stage`.

    Returns:
        The output of the last stage.
    """
    for index, stack in enumerate(stacks, start=first_index):
        stage = copy_stage(stack, scope, index, copy_weights, make)
        tensor = call_stage(stage, tensor, f"The copy of `stages[{index}]` for '{scope}'")
        if copy_weights:
            copy_stage_weights(stack, stage)
    return tensor


def place_unit(layer, tensors, scope):
    """Calls a unit, gate or mask that mixes tensors on the way of its owner.

    Args:
        layer: Keras layer, or a list of layers.
        tensors: Keras tensor or list of them.
        scope: String. Where its variables are, such as `"left/units/conv"`.

    Returns:
        What the last layer returns.
    """
    stack = layer if isinstance(layer, list) else [layer]
    return Stage(stack, scope=scope, name=scope.replace("/", "_"))(tensors)


def place_head(stack, tensor, task):
    """Calls a task's head.

    Args:
        stack: List of layers.
        tensor: Keras tensor, or a structure of them, that the head takes.
        task: String. The task.

    Returns:
        The task's output.
    """
    return call_stage(Stage(stack, scope=task, name=task), tensor, f"The head of task '{task}'")


def call_stage(stage, tensor, what):
    """Calls a stage and says whose input does not fit where it fails."""
    try:
        return stage(tensor)
    except Exception as error:
        shapes = keras.tree.map_structure(lambda x: tuple(x.shape), tensor)
        raise ValueError(
            f"{what} ('{stage.name}') should take what comes before it. Received: input of shape {shapes}. "
            f"The layer says: {error}"
        ) from error


def copy_stage(stack, scope, index, copy_weights=False, make=Stage):
    """Makes a stage of fresh copies of layers, with seeds of their own.

    Args:
        stack: List of layers.
        scope: String. The owner of the copies.
        index: Integer. Place of the stage in the trunk.
        copy_weights: Boolean. Whether the weights will be copied too.
        make: Function that makes the stage from layers, `scope` and `name`.
            Defaults to `Stage`.

    Returns:
        A `keras_mtl.layers.Stage`.
    """
    if copy_weights:
        for layer in stack:
            if not layer.built:
                raise ValueError(
                    f"`copy_weights=True` needs stages that have weights. Received: layer '{layer.name}' of "
                    f"`stages[{index}]`, which is not built"
                )
    with name_scope(scope):  # functional models are built as they are made
        copies = [copy_layer(layer, tag=scope) for layer in stack]
    return make(copies, scope=scope, name=copy_name(stack, scope, index))


def copy_name(stack, scope, index):
    """Name of an owner's copy of a stage."""
    return f"{scope.replace('/', '_')}_{stage_label(stack, index)}"


def copy_stage_weights(stack, stage):
    """Gives a copied stage the weights of the layers that it was copied from."""
    for source, target in zip(stack, stage.stack, strict=True):
        target.set_weights(source.get_weights())


def copy_layer(layer, tag):
    """Makes a layer from another's config, so that the two never start equal.

    Seeds that the config holds are replaced by seeds derived from them and
    from `tag`; where it holds none, Keras draws them from the global seed. So
    `keras.utils.set_random_seed` or explicit seeds reproduce a whole model.

    Args:
        layer: Keras layer.
        tag: String. Tells copies of one layer apart.

    Returns:
        A Keras layer of the same class and name.
    """
    try:
        return type(layer).from_config(_reseed(copy.deepcopy(layer.get_config()), tag))
    except Exception as error:
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) should be able to be made from its config, since a copy "
            f"of it is needed for '{tag}'. The layer says: {error}"
        ) from error


def _reseed(config, tag):
    if isinstance(config, dict):
        return {
            key: zlib.crc32(f"{tag}/{value}".encode()) % 2**31
            if key == "seed" and type(value) is int
            else _reseed(value, tag)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_reseed(item, tag) for item in config)
    return config


def stages_of(model, cuts):
    """Cuts a functional backbone into stages for the builders.

    The stages keep the backbone's layers and weights. Each stage ends with the
    output of the layer named in `cuts`; a last one holds the rest.

    Args:
        model: Functional `keras.Model` with one output, such as one of
            `keras.applications` with `include_top=False`.
        cuts: List of layer names in the order in which data passes them.

    Returns:
        List of `keras.Model`, one more than there are cuts (or as many, where
        the last cut is the model's output).

    Raises:
        ValueError: If a name is no layer of the model, or if a connection goes
            around a cut, so that the parts are not a row of stages.

    Example:

    >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, name="a"), keras.layers.Dense(4)])
    >>> [stage.output_shape for stage in keras_mtl.stages_of(backbone, cuts=["a"])]
    [(None, 6), (None, 4)]
    """
    names = [layer.name for layer in model.layers]
    for cut in cuts:
        if cut not in names:
            raise ValueError(f"`cuts` should name layers of model '{model.name}'. Received: {cut!r}; layers: {names}")
    outputs = [model.get_layer(cut).output for cut in cuts]
    if not outputs or outputs[-1] is not model.outputs[0]:
        outputs.append(model.outputs[0])
    stages, start = [], model.inputs[0]
    for index, output in enumerate(outputs):
        name = cuts[index] if index < len(cuts) else f"{model.name}_rest"
        try:
            stages.append(keras.Model(start, output, name=f"to_{name}"))
        except ValueError as error:
            raise ValueError(
                f"`cuts` should be passed one after the other, with no connection around them. Received: cuts={cuts}; "
                f"the part that ends at '{name}' also needs layers before the cut"
            ) from error
        start = output
    return stages
