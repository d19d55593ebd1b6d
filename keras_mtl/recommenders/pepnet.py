"""PEPNet: embeddings and towers that are scaled by what is known of a person and a domain."""

from __future__ import annotations

import keras

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Stages
from keras_mtl.models._arguments import as_stack, check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights, keep_state
from keras_mtl.models._stages import add_shared, add_unit, call_stage, copy_stage
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.recommenders.personal_gate import PersonalGate


def pepnet(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    prior: Inputs,
    domain: Inputs | None = None,
    shared_depth: int = 1,
    hidden: int | None = None,
    gamma: float = 2.0,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a network whose embeddings and hidden units are scaled for each example.

    The shared stages give the embedding `E`. With `domain`, it is scaled by a gate that sees the domain,
    `O = G_domain(domain, E) * E` (EPNet). Each task has a tower of its own on O, and what every stage of it gives is
    scaled by a gate that sees who and what the example is about, `H <- G_kl(prior, O) * H` (PPNet). A gate is
    `G(p, e) = gamma * sigmoid(W_2 relu(W_1 [p; stop(e)] + b_1) + b_2)`: it moves neither E nor O by its gradient.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). The first `shared_depth` give the embedding, a vector; the
            others, one after the other, make a tower, of which each task gets a copy with seeds of its own.
        heads: Dict from task name to a Keras layer or a list of layers.
        prior: Keras layer or list of layers that makes a vector of `inputs`: what is known of the person, the item
            and its author. The tasks share it.
        domain: As `prior`, of the domain that the example comes from; `None` for one domain. Defaults to `None`.
        shared_depth: Integer, at least 1. How many stages give the embedding. Defaults to 1.
        hidden: Integer. Size of the gates' hidden layers. Defaults to `None`: as wide as what is scaled.
        gamma: Float. The gates' largest factor. Defaults to 2.0, the paper's.
        copy_weights: `None` or boolean. Whether all towers start from the given stages' weights. Defaults to `None`:
            every copy starts anew, and weights that would be lost are refused (see the guide, "What copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`.

    Raises:
        ValueError: If no stage is left for the towers, or embedding, `prior` or `domain` give no vector.

    Example:

    >>> model = keras_mtl.recommenders.pepnet(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16), keras.layers.Dense(8, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ...     prior=keras.layers.Dense(4, activation="relu"),
    ... )
    >>> model.output["a"].shape
    (None, 1)

    Reference:

    - J. Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior
      Information", KDD 2023, arXiv:2302.01115.

    Deviations: the paper makes the gates of all tasks and layers at once and cuts them apart; here each is a unit of
    its task. Its hash tables of embeddings that expire are not part of a model.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    depth = check_integer(shared_depth, "shared_depth", 1, max(len(stacks) - 1, 1))
    if len(stacks) <= depth:
        raise ValueError(
            f"`stages` should have one or more for the towers, above `shared_depth`. Received: {len(stacks)}"
        )
    copy_weights = check_copy_weights(copy_weights, stacks[depth:], depth)
    priors = {"prior": as_stack(prior, "`prior`")}
    if domain is not None:
        priors["domain"] = as_stack(domain, "`domain`")
    known = {what: add_unit(stack, inputs, f"shared/{what}") for what, stack in priors.items()}
    known["the embedding"] = add_shared(stacks[:depth], inputs)
    for what, tensor in known.items():
        if not isinstance(tensor, keras.KerasTensor) or len(tensor.shape) != 2:
            shapes = keras.tree.map_structure(lambda x: tuple(x.shape), tensor)
            raise ValueError(f"A gate takes a vector of {what} for each example. Received: shape {shapes}")

    def scaled(tensor: keras.KerasTensor, what: str, context: keras.KerasTensor, scope: str) -> keras.KerasTensor:
        return add_unit(PersonalGate(hidden, gamma, name="gate"), [known[what], context, tensor], scope)

    embedding = known["the embedding"]
    if domain is not None:
        embedding = scaled(embedding, "domain", embedding, "shared/embedding_gate")
    features = {}
    for task in heads:
        tensor = embedding
        for index, stack in enumerate(stacks[depth:], start=depth):
            stage = copy_stage(stack, task, index)
            tensor = call_stage(stage, tensor, f"The copy of `stages[{index}]` for '{task}'")
            keep_state(stack, stage.stack, copy_weights)
            tensor = scaled(tensor, "prior", embedding, f"{task}/gate_{index + 1}")
        features[task] = tensor
    return MultiTaskModel(inputs, add_heads(heads, features, depends_on), name=name)
