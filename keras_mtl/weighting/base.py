"""The base class of weightings: from losses and task gradients to task weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from keras_mtl._keras_private import seed_generators_of
from keras_mtl._types import Place, Shape, Tasks, Tensor

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.forward import Forward
    from keras_mtl.training.places import Together


class Update(NamedTuple):
    """What an update rule makes of the task gradients of one step.

    Attributes:
        gradients: Dict of gradients by variable.
        weights: Float tensor of shape `(K,)`, for the logs and `update(...)`.
        gramian: Float tensor of shape `(K, K)` or `None`, for the same.
        solved: Float scalar: 0 where the weights are those of an earlier step
            and there is no Gramian. `None` for 1.
    """

    gradients: dict[int, Any]
    weights: Any
    gramian: Any = None
    solved: Any = None


class Weighting(layers.Layer):
    """Turns task losses or task gradients into task weights.

    A weighting is stateful: its state is Keras variables, kept in float32
    whatever the dtype policy, so that it is saved, restored and distributed
    with the model that owns it. It is built with the shape of the loss vector,
    `(K,)` for K tasks.

    It is a Keras layer for the sake of its state and config; `weights` is
    Keras' own name for a layer's variables, hence `task_weights`.

    This class is the base of the weightings on losses, and of the three kinds
    that see task gradients: `GramianWeighting`, `JacobianWeighting` and
    `FeatureWeighting`. A kind owns its update rule, `rule(...)`, and says where
    it wants task gradients; the training step asks for nothing else. Class
    attributes say what else there is:

    - `requires`: the kind by name, `"losses"`, `"features"` (the task gradients
      of the shared features, example by example), `"gramian"` (K x K inner
      products of the task gradients) or `"jacobian"` (the K x P task gradients
      themselves).
    - `sees_gradients`: whether it sees task gradients.
    - `weighs`: False where the task weights are always 1.
    - `weights_may_vanish`: True where the method means it when a task is next to
      without weight, so that `fit` does not warn of it.
    - `second_forward`: True where `after_step` wants the losses of the same
      batch once the optimizer has stepped. Of weightings on losses alone.

    Args:
        name: String. Name of the weighting. Defaults to a name made from the
            class name.
    """

    requires = "losses"
    sees_gradients = False
    weighs = True
    weights_may_vanish = False
    second_forward = False

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32", autocast=False)
        self._initial_state = []

    def set_tasks(self, tasks: Sequence[str], kinds: Sequence[str]) -> None:
        """Tells the weighting whose losses it will see. Called before `build`.

        Methods for which tasks are more than positions extend this; the others
        ignore it.

        Args:
            tasks: List of strings. Task names, in the order of the losses.
            kinds: List of strings, `"regression"` or `"classification"`, as
                told from each task's loss.
        """

    def build(self, input_shape: Shape) -> None:
        """Creates the state. Subclasses extend this and use `add_state`.

        Args:
            input_shape: Shape of the loss vector, `(K,)`; for weightings that
                require the Jacobian, `(K, P)`.
        """
        self.num_tasks = int(input_shape[0])
        self.built = True

    def add_state(
        self, name: str, shape: Sequence[int], initial: npt.ArrayLike | None = 0.0, dtype: str = "float32"
    ) -> keras.Variable:
        """Adds a non-trainable variable that `reset_state` sets back.

        Args:
            name: String. Name of the variable.
            shape: Tuple of integers.
            initial: Float or array. The initial value. Defaults to `0.0`.
            dtype: String. Defaults to `"float32"`. Not `"int32"`: on a GPU,
                XLA does not read such variables; `"int"` has 64 bits.

        Returns:
            A `keras.Variable`.
        """
        value = np.broadcast_to(np.asarray(initial), shape)
        variable = self.add_weight(
            name=name,
            shape=shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(value, dtype=dtype),
            dtype=dtype,
            trainable=False,
            autocast=False,
        )
        self._initial_state.append((variable, value))
        return variable

    def reset_state(self) -> None:
        """Sets the state back to what it was when the weighting was built."""
        for variable, value in self._initial_state:
            variable.assign(ops.convert_to_tensor(value, dtype=variable.dtype))

    # Keras does not save the state of seeds; a weighting that draws goes on where it stopped only with it.

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        super().save_own_variables(store)
        for index, generator in enumerate(seed_generators_of(self)):
            store[f"seed_{index}"] = generator.state

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        for index, generator in enumerate(seed_generators_of(self)):
            generator.state.assign(store[f"seed_{index}"])
        super().load_own_variables({key: store[key] for key in store.keys() if not key.startswith("seed_")})  # noqa: SIM118

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        """Computes the task weights of one step.

        Args:
            losses: Float tensor of shape `(K,)`. Mean loss per labelled
                example of each task, 0 for absent tasks.
            present: Float tensor of shape `(K,)`. 1 for tasks with a labelled
                example in the batch, 0 for the others.
            gramian: Float tensor of shape `(K, K)`. Inner products of the task
                gradients. `None` for weightings on losses.

        Returns:
            Float tensor of shape `(K,)`; 0 for absent tasks.
        """
        raise NotImplementedError

    def objective(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        """The scalar that is differentiated, for variables and learned state.

        Args:
            losses: Float tensor of shape `(K,)`, connected to the model.
            weights: Float tensor of shape `(K,)`, from `task_weights(...)`.
            present: Float tensor of shape `(K,)`.

        Returns:
            Scalar tensor. Defaults to `sum(stop_gradient(weights) * losses)`.
        """
        del present
        return ops.sum(ops.stop_gradient(weights) * losses)

    def update(self, losses: Tensor, present: Tensor, weights: Tensor, gramian: Tensor | None = None) -> None:
        """Updates the state once the optimizer has stepped.

        Must leave the state of absent tasks alone.

        Args:
            losses: Float tensor of shape `(K,)`. Losses before the step.
            present: Float tensor of shape `(K,)`.
            weights: Float tensor of shape `(K,)`. Weights of this step.
            gramian: Float tensor of shape `(K, K)` or `None`.
        """
        del losses, present, weights, gramian  # a body for AutoGraph, which warns of a docstring alone

    def after_step(self, losses: Tensor, losses_after: Tensor, present: Tensor) -> None:
        """Updates the state from the losses of the same batch after the step.

        Called only where `second_forward` is True.

        Args:
            losses: Float tensor of shape `(K,)`. Losses before the step.
            losses_after: Float tensor of shape `(K,)`. Losses after it.
            present: Float tensor of shape `(K,)`.
        """
        del losses, losses_after, present

    def state_of_steps(self) -> list[keras.Variable]:
        """Variables that follow the optimizer's steps.

        Where the optimizer accumulates gradients, micro-batches that end no step
        leave them alone. All other state moves with every micro-batch.

        Returns:
            List of `keras.Variable`. Defaults to none.
        """
        return []

    def shape_for(self, model: MultiTaskModel, tasks: Tasks) -> tuple[int, ...]:
        """The shape that `build` gets for a model: `(K,)`.

        Args:
            model: A `MultiTaskModel`.
            tasks: Sequence of the names of its K trained tasks.

        Returns:
            Tuple of integers.
        """
        del model
        return (len(tasks),)

    def check_options(self, gradients: str, gramian_fraction: float) -> None:
        """Raises where options of `compile` do not go with the kind of weighting."""
        del gradients
        if gramian_fraction < 1:
            raise ValueError(
                f"`gramian_fraction` should be 1 with {type(self).__name__}, which sees no Gramian. "
                f"Received: gramian_fraction={gramian_fraction!r}"
            )

    def needs_features(self, gradients: str, gramian_fraction: float) -> list[tuple[str, Any, Any]]:
        """Options of `compile` and of its own for which the model should have shared features.

        Returns:
            List of tuples: the option's name, its value, and one that needs none.
        """
        del gradients, gramian_fraction
        return []

    def place(self, places: ModuleType, model: MultiTaskModel) -> Together:
        """Chooses where the training step takes gradients.

        Args:
            places: The module `keras_mtl.training.places`.
            model: A compiled `MultiTaskModel`.

        Returns:
            An object that runs the model forward, collects the task gradients
            and puts them together again.
        """
        if not model.compiled_tasks.keeps_tasks_apart:
            return places.Together(model)
        tasks = model.compiled_tasks.tasks
        through = model.sharing.shared_variables(tasks) and model.sharing.has_features(tasks)
        return (places.Features if through else places.Parameters)(model)

    def rule(self, gradients: Place, step: Forward) -> Update:
        """The update rule: a weighted sum of the losses, differentiated as a whole.

        Args:
            gradients: What `place(...)` has chosen, after its forward pass.
            step: `Forward`: losses, which tasks are present, and derivatives.

        Returns:
            `Update`.
        """

        def objective(losses: Tensor) -> tuple[Tensor, Tensor]:
            weights = self.task_weights(losses, step.present)
            return self.objective(losses, weights, step.present), weights

        slopes, learned, weights = step.differentiate(objective, self.trainable_variables, step.losses)
        return Update({**gradients.weighted(slopes), **learned}, weights)

    def follow(
        self,
        step: Forward,
        update: Update,
        if_optimizer_steps: Callable[[Callable[[], None]], None],
        losses_again: Callable[[], Tensor],
    ) -> None:
        """Moves the state once the optimizer has stepped.

        Args:
            step: `Forward`.
            update: `Update`. What the rule has made of it.
            if_optimizer_steps: Function that calls a function, unless the
                optimizer has only accumulated gradients.
            losses_again: Function that gives the losses of the same batch after
                the step.
        """
        self.update(step.losses, step.present, update.weights, update.gramian)
        if self.second_forward:
            if_optimizer_steps(lambda: self.after_step(step.losses, losses_again(), step.present))

    def end_epoch(self, logs: Mapping[str, Any] | None = None) -> None:
        """Updates the state at the end of an epoch. `fit` calls it.

        Args:
            logs: Dict of the epoch's logs, as callbacks receive them.
        """

    def __call__(self, losses: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # Layers take lists for structures; here a list is a vector.
        return super().__call__(ops.convert_to_tensor(losses, dtype="float32"), *args, **kwargs)

    def call(self, losses: Tensor, present: Tensor | None = None, gramian: Tensor | None = None) -> Tensor:
        """Same as `task_weights(...)`, with all tasks present by default."""
        losses = ops.convert_to_tensor(losses, dtype="float32")
        present = ops.ones_like(losses) if present is None else present
        return self.task_weights(losses, present, gramian)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def __repr__(self) -> str:
        options = {k: v for k, v in self.get_config().items() if k != "name"}
        inside = ", ".join(f"{k}={v!r}" for k, v in options.items())
        return f"{type(self).__name__}({inside})"
