"""A model in which every task has inputs of its own."""

import keras

from keras_mtl.models.multi_task_model import MultiTaskModel


def own_inputs(model: MultiTaskModel, name: str | None = None) -> MultiTaskModel:
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

        def copy(tensor: keras.KerasTensor, key: str) -> keras.KerasTensor:
            return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=key)

        if isinstance(given, dict):
            names = {part: f"{task}_{part}" for part in given}
        elif isinstance(given, (list, tuple)):
            names, given = {i: f"{task}_{tensor.name}" for i, tensor in enumerate(given)}, dict(enumerate(given))
        else:
            names, given = {0: f"{task}_input"}, {0: given}
        own = {part: copy(tensor, names[part]) for part, tensor in given.items()}
        inputs.update({names[part]: tensor for part, tensor in own.items()})
        # Without names, since those of the inputs are other ones now.
        nameless = keras.Model(list(given.values()), single.output, name=single.name)
        again = keras.models.clone_model(nameless, input_tensors=list(own.values()), clone_function=lambda layer: layer)
        outputs[task] = again.output
    return MultiTaskModel(inputs, outputs, name=name or model.name)
