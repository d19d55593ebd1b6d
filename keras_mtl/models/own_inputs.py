"""An input of its own for every task."""

import keras

from keras_mtl.models.multi_task_model import MultiTaskModel


def own_inputs(model, name=None):
    """Gives every task of a model inputs of its own.

    The new model has the layers and weights of the given one; each task's
    output is what it was, of the task's own input: with shared layers `phi`
    and the task's own `h_k`, `h_k(phi(x_k))` where it was `h_k(phi(x))`. So
    tasks whose data sets have different examples train together, and where
    they take turns, an absent task has an empty batch and costs next to
    nothing: none of its columns and heads are computed on others' examples.
    `keras_mtl.data.mix(..., inputs="own")` yields such batches.

    Normalization by batch statistics in shared layers goes by one task's
    examples at a time. Weightings that look at task gradients take them with
    `gradients="parameters"`: tasks have no features in common.

    Args:
        model: A `keras_mtl.MultiTaskModel`, from any builder.
        name: String. Name of the new model. Defaults to that of `model`.

    Returns:
        A `keras_mtl.MultiTaskModel` with a dict of inputs: `<task>_input` for
        each task, or `<task>_<name>` for each of the several that it needs. To
        be compiled anew.

    Example:

    >>> model = keras_mtl.hard_sharing(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(8, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> apart = keras_mtl.own_inputs(model)
    >>> {name: tensor.shape for name, tensor in apart.input.items()}
    {'a_input': (None, 20), 'b_input': (None, 20)}
    >>> outputs = apart.predict({"a_input": np.ones((3, 20)), "b_input": np.ones((3, 20))}, verbose=0)
    """
    inputs, outputs = {}, {}
    for task in model.tasks:
        single = model.task_model(task)
        given = single.input

        def copy(tensor, key):
            return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=key)

        if isinstance(given, dict):
            own = {part: copy(tensor, f"{task}_{part}") for part, tensor in given.items()}
            inputs.update({f"{task}_{part}": tensor for part, tensor in own.items()})
        elif isinstance(given, (list, tuple)):
            own = [copy(tensor, f"{task}_{tensor.name}") for tensor in given]
            inputs.update({f"{task}_{old.name}": tensor for old, tensor in zip(given, own, strict=True)})
        else:
            own = inputs[f"{task}_input"] = copy(given, f"{task}_input")
        again = keras.models.clone_model(single, input_tensors=own, clone_function=lambda layer: layer)
        outputs[task] = again.output
    return MultiTaskModel(inputs, outputs, name=name or model.name)
