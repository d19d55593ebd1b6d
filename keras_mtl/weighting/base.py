"""The base classes of weightings: from losses and task gradients to task weights."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._float64 import float64
from keras_mtl._keras_private import seed_generators_of
from keras_mtl._types import Place, Shape, Structure, Tasks, Tensor

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.forward import Forward
    from keras_mtl.training.places import Features, Parameters, Parts, Together

REDUCTIONS = (None, "sum", "mean")
NORMALIZATIONS = (None, "norm", "loss", "loss+")
_IN_FLOAT64 = {"solve", "task_weights", "update"}  # methods that have to do with a Gramian


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


class GramianWeighting(Weighting):
    """Base of the weightings that see task gradients only through G = J J^T.

    Subclasses implement `solve(gramian, present=None)`. The weights of a step
    are `r * solve(G * r r^T)`, where `r` is set by `normalize`, then rescaled
    as `reduction` says. They are weights of the shared parameters: heads get
    their own task's plain gradient.

    Args:
        reduction: `None`, `"sum"` or `"mean"`. `None` keeps the method's own
            scale; `"sum"` rescales the weights so that their absolute values
            sum to the number of present tasks (as unit weights do), `"mean"`
            so that they sum to 1. Lets methods be compared at one learning
            rate. Defaults to `None`.
        normalize: `None`, `"norm"`, `"loss"` or `"loss+"`. Scale of the task
            gradients that the solver sees: divided by their norm, by the
            task's loss, or by both. Defaults to `None`.
        every: Integer. Solve every `every` steps and use the last weights in
            between, with one backward pass instead of K. Defaults to `1`.
        smoothing: Float from 0 to 1. How much of the last weights is kept: the
            weights are `smoothing * last + (1 - smoothing) * new`, those of a
            task's first step its new ones. Noisy batches move them less, as in
            CR-MOGM (Zhou et al., "On the convergence of stochastic
            multi-objective gradient manipulation and beyond", NeurIPS 2022).
            Defaults to `0.0`.
        name: String. Name of the weighting.
    """

    requires = "gramian"
    sees_gradients = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "solve" in cls.__dict__:
            cls.solve = _checked(cls.solve)
        for name in _IN_FLOAT64 & cls.__dict__.keys():
            setattr(cls, name, float64()(getattr(cls, name)))

    def __init__(
        self,
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if reduction not in REDUCTIONS:
            raise ValueError(f"`reduction` should be one of {REDUCTIONS}. Received: reduction={reduction!r}")
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"`normalize` should be one of {NORMALIZATIONS}. Received: normalize={normalize!r}")
        self.reduction = reduction
        self.normalize = normalize
        self.every = check_integer(every, "every", 1)
        self.smoothing = check_number(smoothing, "smoothing", least=0, most=1)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.smoothing > 0:
            self.smoothed_weights = self.add_state("smoothed_weights", (self.num_tasks,))
            self.was_solved = self.add_state("was_solved", (self.num_tasks,))
        if self.every > 1:
            self.step_count = self.add_state("step_count", (), 0, dtype="int")
            self.last_weights = self.add_state("last_weights", (self.num_tasks,), 1.0)

    def check_options(self, gradients: str, gramian_fraction: float) -> None:
        pass

    def needs_features(self, gradients: str, gramian_fraction: float) -> list[tuple[str, Any, Any]]:
        return [
            ("gradients", gradients, "parameters"),
            ("gramian_fraction", gramian_fraction, 1),
            ("every", self.every, 1),
        ]

    def place(self, places: ModuleType, model: MultiTaskModel) -> Parameters:
        compiled = model.compiled_tasks
        if self.every > 1:
            places.check_branches(self)
        if compiled.gramian_fraction < 1:
            return places.OfFirstExamples(model, places.PLACES[compiled.gradients], compiled.gramian_fraction)
        return (places.PLACES if self.every == 1 else places.PLACES_IN_TURNS)[compiled.gradients](model)

    def rule(self, gradients: Place, step: Forward) -> Update:
        """The update rule: shared variables get the task gradients times the weights, heads their own task's."""

        def solve() -> Tensor:
            gramian, known = gradients.gramian()
            with float64():
                weights = self.task_weights(step.losses, known, gramian)
            # Tasks without labels in the part that the Gramian is of weigh as the others do on average.
            mean = ops.divide_no_nan(ops.sum(weights), ops.sum(known))
            weights = weights + mean * step.present * (1.0 - known)
            return weights, gramian

        def objective() -> tuple[Tensor, tuple[Tensor, Tensor]]:
            weights, gramian = self.in_turns(solve, step)
            return self.objective(step.losses, weights, step.present), (weights, gramian)

        _, learned, (weights, gramian) = step.differentiate(objective, self.trainable_variables)
        solved = self.solves_now()
        if solved is not None:
            learned = {name: None if g is None else g * solved for name, g in learned.items()}
        return Update({**gradients.heads(), **gradients.combine(weights), **learned}, weights, gramian, solved)

    def solves_now(self) -> Tensor | None:
        """1 if this step solves for new weights, else 0; `None` where each step does."""
        return None if self.every == 1 else ops.cast(ops.equal(self.step_count % self.every, 0), "float32")

    def in_turns(self, solve: Callable[..., Any], step: Forward) -> tuple[Tensor, Tensor]:
        """Solves for new weights, or gives the last ones and a Gramian of zeros where it is not time."""
        if self.every == 1:
            return solve()

        def solve_and_keep() -> tuple[Tensor, Tensor]:
            weights, gramian = solve()
            self.last_weights.assign(weights)
            return weights, gramian

        with float64():
            nothing = ops.zeros((self.num_tasks, self.num_tasks), "float64")
        held = self.last_weights.value * step.present, nothing
        return step.cond(self.solves_now() > 0, solve_and_keep, lambda: held)  # type: ignore[operator]

    def follow(
        self,
        step: Forward,
        update: Update,
        if_optimizer_steps: Callable[[Callable[[], None]], None],
        losses_again: Callable[[], Tensor],
    ) -> None:
        def follow() -> None:
            with float64():
                self.update(step.losses, step.present, update.weights, update.gramian)

        if self.every == 1:
            follow()
        else:
            step.cond(update.solved > 0, lambda: (follow(), ops.ones(()))[1], lambda: ops.zeros(()))  # type: ignore[func-returns-value]
            self.step_count.assign((self.step_count + 1) % self.every)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        """Solves for the task weights of one Gramian.

        Args:
            gramian: Float tensor of shape `(K, K)`, symmetric positive
                semi-definite.
            present: Float tensor of shape `(K,)`, 1 for the tasks to weigh.
                Defaults to all tasks.

        Returns:
            float64 tensor of shape `(K,)`, finite, 0 for absent tasks.

        Raises:
            NotImplementedError: On a Keras backend other than TensorFlow and
                JAX.
        """
        raise NotImplementedError

    @float64()
    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        gramian = ops.cast(gramian, "float64")
        present = ops.cast(present, "float64")
        scale = self._row_scale(ops.cast(losses, "float64"), gramian)
        weights = self.solve(gramian * scale[:, None] * scale[None, :], present) * scale * present
        return self._smooth(ops.cast(self._rescale(weights, present), "float32"), ops.cast(present, "float32"))

    def _smooth(self, weights: Tensor, present: Tensor) -> Tensor:
        """The moving average of the weights; it moves on for the tasks that are present."""
        if self.smoothing == 0:
            return weights
        kept = self.smoothing * self.smoothed_weights.value + (1.0 - self.smoothing) * weights
        smoothed = ops.where(self.was_solved.value > 0, kept, weights)
        self.smoothed_weights.assign(ops.where(present > 0, smoothed, self.smoothed_weights.value))
        self.was_solved.assign(ops.maximum(self.was_solved.value, present))
        return smoothed * present

    def _row_scale(self, losses: Tensor, gramian: Tensor) -> Tensor:
        scale = ops.ones_like(losses)
        if self.normalize in ("norm", "loss+"):
            norms = ops.sqrt(ops.diagonal(gramian))
            scale = scale / ops.where(norms > 0, norms, 1.0)
        if self.normalize in ("loss", "loss+"):
            scale = scale / ops.where(losses > 0, losses, 1.0)
        return scale

    def _rescale(self, weights: Tensor, present: Tensor) -> Tensor:
        if self.reduction is None:
            return weights
        total = ops.sum(ops.abs(weights))
        target = ops.sum(present) if self.reduction == "sum" else 1.0
        return weights * ops.where(total > 0, target / ops.where(total > 0, total, 1.0), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Config with those of the options above that the class takes; subclasses add their own options."""
        taken = _arguments(type(self))
        options = {name: getattr(self, name) for name in ("reduction", "normalize", "every", "smoothing")}
        return {**super().get_config(), **{option: options[option] for option in options if option in taken}}


def _arguments(cls: type) -> set[str]:
    """Names of the arguments that a class takes, those that it hands on as `**kwargs` included."""
    names = set()
    for parent in cls.__mro__:
        if "__init__" in parent.__dict__:
            parameters = inspect.signature(parent.__init__).parameters  # type: ignore[misc]
            names.update(parameters)
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return names


def _checked(solve: Callable[..., Any]) -> Callable[..., Any]:
    """A `solve` that refuses the backends on which some solvers give wrong weights without a word."""

    @functools.wraps(solve)
    def checked(self: Structure, *args: Any, **kwargs: Any) -> Structure:
        if keras.config.backend() not in ("tensorflow", "jax"):
            raise NotImplementedError(
                f"`{type(self).__name__}.solve` should run on Keras' backend 'tensorflow' or 'jax', which it is tested "
                f"on. Received: backend {keras.config.backend()!r}"
            )
        return solve(self, *args, **kwargs)

    return checked


class FeatureWeighting(Weighting):
    """Base of the methods that change the task gradients of the shared features.

    Built with `(K, D)`: K tasks, D features of an example. The trunk gets the sum of the changed gradients.
    """

    requires = "features"
    sees_gradients = True

    def shape_for(self, model: MultiTaskModel, tasks: Tasks) -> tuple[int, int]:
        shapes = [tuple(feature.shape[1:]) for feature in model.sharing.features(tasks)]
        if any(size is None for shape in shapes for size in shape):
            raise ValueError(
                f"Weighting {type(self).__name__} needs shared features of known shapes. Received: {shapes}"
            )
        return len(tasks), sum(int(np.prod(shape)) for shape in shapes)

    def place(self, places: ModuleType, model: MultiTaskModel) -> Features:
        return places.Features(model)

    def rule(self, gradients: Place, step: Forward) -> Update:
        """The update rule: the trunk gets the sum of the changed gradients of the features."""

        def objective() -> tuple[Tensor, Tensor]:
            changed, value = self.align(gradients.by_example(), step.present, gradients.all_reduce)
            return value, changed

        _, learned, changed = step.differentiate(objective, self.trainable_variables, in_parts=True)
        of_trunk = gradients.from_features(ops.einsum("kbd,k->bd", changed, step.present))
        weights = self.task_weights(step.losses, step.present)
        return Update({**gradients.heads(), **of_trunk, **learned}, weights, gradients.gramian()[0])

    def align(
        self, gradients: Tensor, present: Tensor, add_up: Callable[..., Any] = lambda tensors: tensors
    ) -> tuple[Tensor, Tensor]:
        """Changes the tasks' gradients and updates the state.

        Args:
            gradients: float32 tensor of shape `(K, B, D)`: dL_k/dh for B
                examples. 0 for absent tasks.
            present: Float tensor of shape `(K,)`.
            add_up: Function that sums each of a list of tensors over the
                replicas, which hold different examples. It has no gradient.
                Defaults to one replica.

        Returns:
            Tuple `(changed, objective)`: a tensor of the shape of `gradients`,
            and a scalar whose sum over the replicas the weighting's own
            variables minimize.
        """
        raise NotImplementedError


class JacobianWeighting(Weighting):
    """Base of the methods that need the task gradients themselves.

    Built with `(K, P)`: K tasks, P shared parameters. Instead of weights they
    give the update direction itself. It is that of the shared parameters alone:
    heads get their own task's plain gradient, of the whole batch.

    `sub_batches` is the number of independent parts that the batch is split into.
    """

    requires = "jacobian"
    sees_gradients = True
    sub_batches = 1

    def shape_for(self, model: MultiTaskModel, tasks: Tasks) -> tuple[int, int]:
        return len(tasks), sum(int(np.prod(v.shape)) for v in model.sharing.shared_variables(tasks))

    def check_options(self, gradients: str, gramian_fraction: float) -> None:
        super().check_options(gradients, gramian_fraction)
        if gradients != "parameters":
            raise ValueError(
                f"`gradients` should be 'parameters' with {type(self).__name__}, which combines the gradients of the "
                f"parameters themselves. Received: gradients={gradients!r}"
            )

    def place(self, places: ModuleType, model: MultiTaskModel) -> Parts:
        return places.Parameters(model) if self.sub_batches == 1 else places.Parts(model, self.sub_batches)

    def rule(self, gradients: Place, step: Forward) -> Update:
        """The update rule: shared variables get the direction, heads their own task's gradient."""
        direction, weights = self.direction(gradients.jacobian(), gradients.losses, step.present)
        gramian, _ = gradients.gramian()
        return Update({**gradients.heads(), **gradients.split(direction)}, weights, gramian)

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Combines the task gradients into one direction and updates the state.

        Args:
            jacobian: Float tensor of shape `(K, P)`; with
                `sub_batches = S > 1`, of shape `(S, K, P)`. Rows of absent
                tasks are 0.
            losses: Float tensor of shape `(K,)`; `(S, K)` with sub-batches.
            present: Float tensor of shape `(K,)`.

        Returns:
            Tuple `(direction, weights)`: the direction, of shape `(P,)`, that
            takes the gradient's place, and the task weights to be logged, of
            shape `(K,)`.
        """
        raise NotImplementedError
