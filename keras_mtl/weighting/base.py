"""What every weighting is: the contract between losses, task gradients and task weights."""

import functools
import inspect

import keras
import numpy as np
from keras import layers, ops

from keras_mtl.numbers import check_integer

REDUCTIONS = (None, "sum", "mean")
NORMALIZATIONS = (None, "norm", "loss", "loss+")


class Weighting(layers.Layer):
    """Turns task losses or task gradients into task weights.

    A weighting is stateful: its state is Keras variables, kept in float32
    whatever the dtype policy, so that it is saved, restored and distributed
    with the model that owns it. It is built with the shape of the loss vector,
    `(K,)` for K tasks.

    It is a Keras layer for the sake of its state and config; `weights` is
    Keras' own name for a layer's variables, hence `task_weights`.

    What a weighting needs it says in class attributes; the training step reads
    those and never asks for a method's name:

    - `requires`: `"losses"`, `"features"` (the task gradients of the shared
      features, example by example), `"gramian"` (K x K inner products of the task
      gradients) or `"jacobian"` (the K x P task gradients themselves).
    - `second_forward`: True where `after_step` wants the losses of the same
      batch once the optimizer has stepped.
    - `sub_batches`: the number of independent parts the batch is split into.
    - `every`: the number of steps for which the weights on task gradients hold.
    - `weighs`: False where the task weights are always 1.

    Args:
        name: String. Name of the weighting. Defaults to a name made from the
            class name.
    """

    requires = "losses"
    second_forward = False
    sub_batches = 1
    every = 1
    weighs = True

    def __init__(self, name=None):
        super().__init__(name=name, dtype="float32", autocast=False)
        self._initial_state = []

    def set_tasks(self, tasks, kinds):
        """Tells the weighting whose losses it will see. Called before `build`.

        Methods for which tasks are more than positions extend this; the others
        ignore it.

        Args:
            tasks: List of strings. Task names, in the order of the losses.
            kinds: List of strings, `"regression"` or `"classification"`, as
                told from each task's loss.
        """

    def build(self, input_shape):
        """Creates the state. Subclasses extend this and use `add_state`.

        Args:
            input_shape: Shape of the loss vector, `(K,)`; for weightings that
                require the Jacobian, `(K, P)`.
        """
        self.num_tasks = int(input_shape[0])
        if self.every > 1:
            self.step_count = self.add_state("step_count", (), 0, dtype="int")
            self.last_weights = self.add_state("last_weights", (self.num_tasks,), 1.0)
        self.built = True

    def add_state(self, name, shape, initial=0.0, dtype="float32"):
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

    def reset_state(self):
        """Sets the state back to what it was when the weighting was built."""
        for variable, value in self._initial_state:
            variable.assign(ops.convert_to_tensor(value, dtype=variable.dtype))

    # Keras does not save the state of seeds; a weighting that draws goes on where it stopped only with it.

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for index, generator in enumerate(self._seed_generators):
            store[f"seed_{index}"] = generator.state

    def load_own_variables(self, store):
        for index, generator in enumerate(self._seed_generators):
            generator.state.assign(store[f"seed_{index}"])
        super().load_own_variables({key: store[key] for key in store.keys() if not key.startswith("seed_")})  # noqa: SIM118

    def task_weights(self, losses, present, gramian=None):
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

    def objective(self, losses, weights, present):
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

    def update(self, losses, present, weights, gramian=None):
        """Updates the state once the optimizer has stepped.

        Must leave the state of absent tasks alone.

        Args:
            losses: Float tensor of shape `(K,)`. Losses before the step.
            present: Float tensor of shape `(K,)`.
            weights: Float tensor of shape `(K,)`. Weights of this step.
            gramian: Float tensor of shape `(K, K)` or `None`.
        """
        del losses, present, weights, gramian  # a body for AutoGraph, which warns of a docstring alone

    def after_step(self, losses, losses_after, present):
        """Updates the state from the losses of the same batch after the step.

        Called only where `second_forward` is True.

        Args:
            losses: Float tensor of shape `(K,)`. Losses before the step.
            losses_after: Float tensor of shape `(K,)`. Losses after it.
            present: Float tensor of shape `(K,)`.
        """
        del losses, losses_after, present

    def state_of_steps(self):
        """Variables that follow the optimizer's steps.

        Where the optimizer accumulates gradients, micro-batches that end no step
        leave them alone. All other state moves with every micro-batch.

        Returns:
            List of `keras.Variable`. Defaults to none.
        """
        return []

    def is_due(self):
        """Whether this step solves for new weights, where `every` is above 1."""
        return ops.equal(self.step_count % self.every, 0)

    def keep(self, weights):
        """Keeps the weights for the steps until the next that is due."""
        if self.every > 1:
            self.last_weights.assign(weights)

    def count_step(self):
        """Counts a step, where `every` is above 1."""
        self.step_count.assign((self.step_count + 1) % self.every)

    def end_epoch(self, logs=None):
        """Updates the state at the end of an epoch. `fit` calls it.

        Args:
            logs: Dict of the epoch's logs, as callbacks receive them.
        """

    def __call__(self, losses, *args, **kwargs):
        # Layers take lists for structures; here a list is a vector.
        return super().__call__(ops.convert_to_tensor(losses, dtype="float32"), *args, **kwargs)

    def call(self, losses, present=None, gramian=None):
        """Same as `task_weights(...)`, with all tasks present by default."""
        losses = ops.convert_to_tensor(losses, dtype="float32")
        present = ops.ones_like(losses) if present is None else present
        return self.task_weights(losses, present, gramian)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
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
        name: String. Name of the weighting.
    """

    requires = "gramian"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "solve" in cls.__dict__:
            cls.solve = _on_tensorflow(cls.solve)

    def __init__(self, reduction=None, normalize=None, every=1, name=None):
        super().__init__(name=name)
        if reduction not in REDUCTIONS:
            raise ValueError(f"`reduction` should be one of {REDUCTIONS}. Received: reduction={reduction!r}")
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"`normalize` should be one of {NORMALIZATIONS}. Received: normalize={normalize!r}")
        self.reduction = reduction
        self.normalize = normalize
        self.every = check_integer(every, "every", 1)

    def solve(self, gramian, present=None):
        """Solves for the task weights of one Gramian.

        Args:
            gramian: Float tensor of shape `(K, K)`, symmetric positive
                semi-definite.
            present: Float tensor of shape `(K,)`, 1 for the tasks to weigh.
                Defaults to all tasks.

        Returns:
            float64 tensor of shape `(K,)`, finite, 0 for absent tasks.

        Raises:
            NotImplementedError: On a Keras backend other than TensorFlow.
        """
        raise NotImplementedError

    def task_weights(self, losses, present, gramian=None):
        gramian = ops.cast(gramian, "float64")
        present = ops.cast(present, "float64")
        scale = self._row_scale(ops.cast(losses, "float64"), gramian)
        weights = self.solve(gramian * scale[:, None] * scale[None, :], present) * scale * present
        return ops.cast(self._rescale(weights, present), "float32")

    def _row_scale(self, losses, gramian):
        scale = ops.ones_like(losses)
        if self.normalize in ("norm", "loss+"):
            norms = ops.sqrt(ops.diagonal(gramian))
            scale = scale / ops.where(norms > 0, norms, 1.0)
        if self.normalize in ("loss", "loss+"):
            scale = scale / ops.where(losses > 0, losses, 1.0)
        return scale

    def _rescale(self, weights, present):
        if self.reduction is None:
            return weights
        total = ops.sum(ops.abs(weights))
        target = ops.sum(present) if self.reduction == "sum" else 1.0
        return weights * ops.where(total > 0, target / ops.where(total > 0, total, 1.0), 0.0)

    def get_config(self):
        """Config with those of the options above that the class takes; subclasses add their own options."""
        taken = _arguments(type(self))
        options = {"reduction": self.reduction, "normalize": self.normalize, "every": self.every}
        return {**super().get_config(), **{option: options[option] for option in options if option in taken}}


def _arguments(cls):
    """Names of the arguments that a class takes, those that it hands on as `**kwargs` included."""
    names = set()
    for parent in cls.__mro__:
        if "__init__" in parent.__dict__:
            parameters = inspect.signature(parent.__init__).parameters
            names.update(parameters)
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return names


def _on_tensorflow(solve):
    """A `solve` that refuses the backends on which some solvers give wrong weights without a word."""

    @functools.wraps(solve)
    def checked(self, *args, **kwargs):
        if keras.config.backend() != "tensorflow":
            raise NotImplementedError(
                f"`{type(self).__name__}.solve` should run on Keras' backend 'tensorflow', the only one that it is "
                f"tested on. Received: backend {keras.config.backend()!r}"
            )
        return solve(self, *args, **kwargs)

    return checked


class FeatureWeighting(Weighting):
    """Base of the methods that change the task gradients of the shared features.

    Built with `(K, D)`: K tasks, D features of an example. The trunk gets the sum of the changed gradients.
    """

    requires = "features"

    def align(self, gradients, present, add_up=lambda tensors: tensors):
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
    """

    requires = "jacobian"

    def direction(self, jacobian, losses, present):
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
