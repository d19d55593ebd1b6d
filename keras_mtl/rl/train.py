"""Training policies on environments, with `compile`d models and Keras' callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl.rl._environments import Copies, check_environment, check_policies, make
from keras_mtl.rl._rollouts import Rollouts
from keras_mtl.rl._run_logs import RunLogs

if TYPE_CHECKING:
    from keras_mtl.data._chooser import Chooser
    from keras_mtl.data.samplers.base import Sampler
    from keras_mtl.data.task_stats import TaskStats
    from keras_mtl.models.multi_task_model import MultiTaskModel


def train(
    model: MultiTaskModel,
    environments: Mapping[str, str | Callable[..., Any]],
    *,
    epochs: int,
    rollouts_per_epoch: int = 10,
    copies: int = 8,
    horizon: int = 16,
    discount: float = 0.99,
    trace: float = 0.95,
    passes: int = 1,
    minibatches: int = 1,
    sampler: str | Mapping[str, float] | Sampler | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    seed: int | None = None,
) -> keras.callbacks.History:
    """Trains a model's policies, each on the environment of its task.

    An epoch is some rollouts, each followed by optimizer steps on what was
    seen. In a rollout every task's policy takes `horizon` steps in `copies`
    copies of its environment; with a `sampler`, one task is drawn for each
    rollout and the others wait. The losses, the weighting and the optimizer
    are those of `compile`.

    Args:
        model: A `keras_mtl.MultiTaskModel`, compiled with
            `keras_mtl.rl.ActorCriticLoss` (heads with n + 1 outputs for n
            actions: logits, then the value) or, for a `keras_mtl.rl.distral`
            model, with `keras_mtl.rl.DistralLoss`.
        environments: Dict from task to the name of a Gymnasium environment or
            a function without arguments that makes one. Its actions are
            `Discrete`; its observations have the shapes of the model's inputs.
        epochs: Integer.
        rollouts_per_epoch: Integer. Defaults to `10`.
        copies: Integer. Defaults to `8`.
        horizon: Integer. Defaults to `16`.
        discount: Float. Discount of rewards. Defaults to `0.99`.
        trace: Float. Lambda of generalized advantage estimation; advantages
            are standardized by task and rollout. Defaults to `0.95`.
        passes: Integer. How often a rollout is gone through. Above 1 the loss
            should have a `clip`. Defaults to `1`.
        minibatches: Integer. Parts that a rollout is cut into in each pass.
            Defaults to `1`.
        sampler: A sampler of `keras_mtl.data`, or whatever `mix` takes for
            one, that draws the task of each rollout. Its stats have the logs
            `<task>_return`, of every episode that ended, and `<task>_loss`.
            Defaults to `None`: all tasks take part in each rollout.
        callbacks: List of Keras callbacks. Logs are `<task>_return` and
            `<task>_length`, means over the episodes that ended in the epoch
            (NaN where none did), `<task>_steps`, all steps so far, and the
            logs of training, means over its steps.
        seed: Integer. Seed of environments, actions and minibatches. Defaults
            to `None`.

    Returns:
        `keras.callbacks.History`.

    Raises:
        ValueError: If an environment's actions do not fit the head of its
            task, or its observations the inputs; or if the model is not
            compiled with losses of policies.
        ImportError: If gymnasium is not installed.

    Example:

    >>> model = keras_mtl.hard_sharing(
    ...     inputs=keras.Input((4,)),
    ...     stages=[keras.layers.Dense(16, activation="tanh")],
    ...     heads={"light": keras.layers.Dense(3), "heavy": keras.layers.Dense(3)},
    ... )
    >>> model.compile("adam", loss=keras_mtl.rl.ActorCriticLoss())
    >>> environments = {"light": "CartPole-v1", "heavy": "CartPole-v1"}
    >>> history = keras_mtl.rl.train(model, environments, epochs=1, rollouts_per_epoch=1, seed=0)
    >>> history.history["heavy_steps"]
    [128.0]
    """
    # Imported here, since `import keras_mtl` has no time for what handles data sets.
    from keras_mtl.data.task_stats import TaskStats

    losses = _check(model, environments)
    rng = np.random.default_rng(seed)
    workers = {task: Copies(one, copies, seed=int(rng.integers(2**31))) for task, one in environments.items()}
    rollouts = Rollouts(model, workers, losses, rng)
    stats = TaskStats(dict.fromkeys(environments, float("nan")), steps_per_epoch=rollouts_per_epoch)
    logs = RunLogs(workers, stats)
    chooser = None if sampler is None else _chooser(sampler, stats, rng)
    told = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=epochs, verbose=0)
    model.stop_training = False
    told.on_train_begin()
    try:
        for epoch in range(epochs):
            told.on_epoch_begin(epoch)
            for step in range(rollouts_per_epoch):
                told.on_train_batch_begin(step)
                tasks = list(environments) if chooser is None else [stats.tasks[chooser.next()]]
                x, y, weights = rollouts.collect(tasks, horizon, discount, trace)
                for rows in _minibatches(len(weights[tasks[0]]), passes, minibatches, rng):
                    part = keras.tree.map_structure(lambda array, rows=rows: array[rows], (x, y, weights))
                    logs.add(tasks, model.train_on_batch(part[0], part[1], sample_weight=part[2], return_dict=True))
                logs.end_rollout(tasks)
                if chooser is not None:
                    chooser.observe(stats.tasks.index(tasks[0]))
                told.on_train_batch_end(step, logs.last)
            found = logs.end_epoch()
            model.compiled_tasks.weighting.end_epoch(found)
            told.on_epoch_end(epoch, found)
            if model.stop_training:
                break
    finally:
        for worker in workers.values():
            worker.close()
    told.on_train_end(found)
    return model.history


def _check(
    model: MultiTaskModel, environments: Mapping[str, str | Callable[..., Any]]
) -> dict[str, keras.losses.Loss | None]:
    losses = check_policies(model, environments)
    for task, environment in environments.items():
        one = make(environment)
        check_environment(task, one, model, losses[task])
        one.close()
    return losses


def _chooser(sampler: str | Mapping[str, float] | Sampler, stats: TaskStats, rng: np.random.Generator) -> Chooser:
    from keras_mtl.data._chooser import Chooser
    from keras_mtl.data.samplers._registry import get_sampler

    sampler = get_sampler(sampler)
    if hasattr(sampler, "prepare"):
        sampler.prepare(stats)
    return Chooser(sampler, stats, seed=int(rng.integers(2**31)))


def _minibatches(size: int, passes: int, minibatches: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Which rows of a rollout make each step: shuffled and cut, as often as asked."""
    if passes == minibatches == 1:
        return [np.arange(size)]
    return [part for _ in range(passes) for part in np.array_split(rng.permutation(size), minibatches)]
