"""The base of weightings that see task gradients through their inner products."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import keras
from keras import ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._float64 import float64
from keras_mtl._types import Place, Shape, Structure, Tensor
from keras_mtl.weighting.base import Update, Weighting

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.forward import Forward
    from keras_mtl.training.places import Parameters

REDUCTIONS = (None, "sum", "mean")
NORMALIZATIONS = (None, "norm", "loss", "loss+")
_IN_FLOAT64 = {"solve", "task_weights", "update"}  # methods that have to do with a Gramian


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
