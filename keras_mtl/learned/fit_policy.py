"""Training weights and policy in alternation, each on data of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._checks import check_integer
from keras_mtl._types import Callbacks, Data
from keras_mtl.learned.policy_stage import PolicyStage

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def fit_policy(
    model: MultiTaskModel,
    data: Data,
    policy_data: Data,
    *,
    epochs: int,
    policy_optimizer: str | keras.optimizers.Optimizer = "adam",
    callbacks: Callbacks | None = None,
    verbose: int | str = "auto",
) -> dict[str, list[float]]:
    """Trains a model of `adashare`: an epoch of weights, an epoch of its policy, and so on.

    The weights' epochs see `data` and hold the policy's logits, which still
    draw; the policy's epochs see `policy_data` and hold the weights. While the
    warm-up lasts there are no epochs of the policy.

    Args:
        model: A compiled model of `adashare` that learns its policy. Its
            optimizer trains the weights.
        data: What `fit` takes as `x`: a `tf.data.Dataset`, or a tuple
            `(x, y)` of arrays.
        policy_data: As `data`, with other examples.
        epochs: Integer. Epochs of the weights.
        policy_optimizer: Optimizer of the logits, as `compile` takes it. The
            official code's is Adam with a learning rate of 0.01 and weight
            decay 5e-4. Defaults to `"adam"`.
        callbacks: List of callbacks of the weights' epochs. Defaults to
            `None`.
        verbose: As in `fit`. Defaults to `"auto"`.

    Returns:
        Dict from the names of logs to lists with a value for each epoch of the
        weights; those of the policy's epochs have `policy_` before them, and
        as many values as there were.

    Raises:
        ValueError: If the model is not compiled or has no policy to learn.

    Example:

    >>> model = keras_mtl.learned.adashare(
    ...     inputs=keras.Input((3,)),
    ...     stages=[keras.layers.Dense(3, activation="tanh", name="block")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> model.compile("sgd", loss={"a": "mse", "b": "mse"})
    >>> x, y = np.ones((8, 3)), {"a": np.ones((8, 1)), "b": np.zeros((8, 1))}
    >>> history = keras_mtl.learned.fit_policy(model, (x[:4], {t: v[:4] for t, v in y.items()}),
    ...     (x[4:], {t: v[4:] for t, v in y.items()}), epochs=2, verbose=0)
    >>> len(history["loss"]), len(history["policy_loss"])
    (2, 2)
    """
    gates = [stage for stage in model.layers if isinstance(stage, PolicyStage)]
    if not gates:
        raise ValueError(f"`model` should be one of `adashare` that learns its policy. Received: '{model.name}'")
    if not model.compiled:
        raise ValueError(f"`model` should be compiled: its optimizer trains the weights. Received: '{model.name}'")
    epochs = check_integer(epochs, "epochs", 1)
    for argument, given in {"data": data, "policy_data": policy_data}.items():
        if given is None or (isinstance(given, tuple) and len(given) < 2):
            raise ValueError(f"`{argument}` should be a dataset or a tuple (x, y). Received: {argument}={given!r}")
    logits = {id(stage.mixer.logits) for stage in gates}
    trained = model.trainable_variables
    # The same layers once more: a model's training step is traced for the variables that it trains.
    twin = type(model)(model.input, model.output, name=f"{model.name}_policy")
    config = {**model.get_compile_config(), "optimizer": keras.optimizers.get(policy_optimizer)}
    twin.compile_from_config({**config, "optimizer": keras.optimizers.serialize(config["optimizer"])})
    logs = {}
    try:
        for epoch in range(epochs):
            for variable in trained:
                variable.trainable = id(variable) not in logits
            _epoch(model, data, epoch, logs, "", callbacks, verbose)
            if not any(float(stage.mixer.chooses) for stage in gates):
                continue
            for variable in trained:
                variable.trainable = id(variable) in logits
            _epoch(twin, policy_data, epoch, logs, "policy_", None, 0)
    finally:
        for variable in trained:
            variable.trainable = True
    return logs


def _epoch(
    model: MultiTaskModel,
    data: Data,
    epoch: int,
    logs: dict[str, Any],
    prefix: str,
    callbacks: Callbacks,
    verbose: int | str,
) -> None:
    arguments = data if isinstance(data, tuple) else (data,)
    history = model.fit(*arguments, initial_epoch=epoch, epochs=epoch + 1, callbacks=callbacks, verbose=verbose).history  # type: ignore[misc]
    for name, values in history.items():
        logs.setdefault(prefix + name, []).extend(values)
