"""AdaShare: which task runs which block, learned."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from keras_mtl._checks import check_boolean, check_integer, check_number
from keras_mtl._types import DependsOn, Heads, Inputs, Stages, Tasks, Tensor
from keras_mtl.layers import ExpertMixture, Stage
from keras_mtl.learned.gumbel_gate import GumbelGate
from keras_mtl.learned.policy_stage import PolicyStage
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._stages import add_unit, call_stage, stage_label
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def adashare(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    policy: Mapping[str, Sequence[bool]] | None = None,
    residual: bool = True,
    sparsity: float = 0.05,
    sharing: float = 0.05,
    form: Literal["code", "paper"] = "code",
    temperature: float = 5.0,
    decay: float = 0.965**0.01,
    min_temperature: float = 0.1,
    warmup_steps: int = 0,
    curriculum_steps: int = 0,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a trunk of which each task runs some blocks and skips the others.

    A stage that keeps its input's shape is a block. With `v_lk` drawn by a
    Gumbel-softmax from task k's logits for block l, the task goes on with

    `x_k = v_lk1 (x_k + f_l(x_k)) + v_lk2 x_k`

    All tasks that run a block share its weights. Other stages are always run.
    `keras_mtl.learned.PolicyStage` has the terms that the logits add to the loss.
    `fit` trains weights and logits together; `fit_policy` trains them in
    alternation on data of their own, as the paper does. `policy_of` and `sample_policies`
    read what was found, and `policy=` builds the network that it stands for,
    to be trained anew.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers), each returning one
            tensor. They are shared, never copied.
        heads: Dict from task name to a Keras layer or a list of layers.
        policy: `None`, or a dict from task to a list of booleans, whether the
            task runs each block: nothing is learned then. Defaults to `None`.
        residual: Boolean. Whether a block that runs adds to its input. `False`
            is for blocks that do so themselves. Defaults to `True`.
        sparsity: Float. Strength of the term that makes tasks skip blocks.
            Defaults to 0.05.
        sharing: Float. Strength of the term that makes tasks choose alike.
            Defaults to 0.05.
        form: `"code"` or `"paper"`. The two terms as in the official code or
            as published. The published one adds `sparsity log p`, which has no
            lower bound: once a task leans towards skipping a block, nothing
            but the task's loss holds it, and policies collapse to all blocks
            of all tasks skipped, with 0.05 already on the planted groups of
            `recipes/studies/learned_sharing.py`. With `"code"` the term is 0
            where a block is skipped; a large `sparsity` skips everything, too.
            Defaults to `"code"`.
        temperature: Float. Temperature of the Gumbel-softmax at the first step.
            Defaults to 5.
        decay: Float. The temperature is multiplied by it at each step.
            Defaults to `0.965**0.01`, 0.965 over 100 steps.
        min_temperature: Float. The temperature falls no further. Defaults to
            0.1.
        warmup_steps: Integer. Training steps in which all tasks run all
            blocks. Defaults to 0.
        curriculum_steps: Integer. Steps by which each block's choice begins
            later than that of the block above it. Defaults to 0.
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. `sharing_coefficients()` gives the
        probabilities of running and of skipping.

    Raises:
        ValueError: If no stage keeps its input's shape, or `policy` does not
            say for each task and block whether to run it.

    Example:

    >>> model = keras_mtl.learned.adashare(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, name="stem")]
    ...     + [keras.layers.Dense(16, activation="tanh", name=f"block_{i}") for i in range(2)],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> model.sharing_coefficients()["a/policy/block_0"].tolist()
    [0.5, 0.5]
    >>> keras_mtl.learned.policy_of(model)["a"]
    [True, True]

    Reference:

    - X. Sun et al., "AdaShare: Learning What To Share For Efficient Deep Multi-Task Learning", NeurIPS 2020.

    Deviations: warm-up, curriculum and temperature go by training steps, of
    weights and logits together. Where features differ from task to task, a
    block runs once for each task.
    """
    check_boolean(residual, "residual")
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    warmup_steps = check_integer(warmup_steps, "warmup_steps")
    curriculum_steps = check_integer(curriculum_steps, "curriculum_steps")
    sparsity, sharing = check_number(sparsity, "sparsity"), check_number(sharing, "sharing")
    placed = [
        Stage(stack, scope="shared", name=f"shared_{stage_label(stack, index)}") for index, stack in enumerate(stacks)
    ]
    blocks = _blocks(inputs, placed)
    policy = _check_policy(policy, tuple(heads), len(blocks))
    tensors = dict.fromkeys(heads, inputs)
    for index, stage in enumerate(placed):
        label = stage_label(stacks[index], index)
        block = blocks.index(index) if index in blocks else None
        runs = {task: policy is None or block is None or policy[task][block] for task in heads}
        done = {}
        for task in heads:
            if runs[task] and id(tensors[task]) not in done:
                done[id(tensors[task])] = _run(stage, tensors[task], index, residual and block is not None)
        before = tensors
        tensors = {task: done[id(before[task])] if runs[task] else before[task] for task in heads}
        if policy is None and block is not None:
            make_gate = functools.partial(
                GumbelGate,
                2,
                temperature=temperature,
                decay=decay,
                min_temperature=min_temperature,
                warmup="first",
                warmup_steps=warmup_steps + curriculum_steps * (len(blocks) - 1 - block),
                name="choose",
            )
            terms: dict[str, Any] = {"sparsity": sparsity, "sharing": sharing, "form": form}
            place = {"block": block + 1, "num_blocks": len(blocks), **terms}
            names = [f"{task}_policy_{label}" for task in heads]
            for task, stage_name in zip(heads, names, strict=True):
                scope = f"{task}/policy/{label}"
                gate = PolicyStage([make_gate()], scope, names, **place, name=stage_name)(before[task])
                mixture = ExpertMixture(name="mixture")
                tensors[task] = add_unit(mixture, [gate, tensors[task], before[task]], f"{task}/chosen/{label}")
    outputs = add_heads(heads, tensors, depends_on)
    return MultiTaskModel(inputs, outputs, name=name)


def policy_of(model: MultiTaskModel) -> dict[str, list[bool]]:
    """Which blocks each task is more likely to run than to skip.

    Args:
        model: A model of `adashare` that learns its policy.

    Returns:
        Dict from task to a list of booleans, one for each block.
    """
    return {task: [bool(p[0] >= 0.5) for p in found] for task, found in _probabilities(model).items()}


def sample_policies(model: MultiTaskModel, count: int, seed: int | None = None) -> list[dict[str, list[bool]]]:
    """Draws policies from the probabilities that a model has learned.

    Args:
        model: A model of `adashare` that learns its policy.
        count: Integer. How many.
        seed: Integer or `None`. Seed of the draws.

    Returns:
        List of dicts from task to a list of booleans. The paper trains eight of
        them anew and keeps the best.
    """
    count = check_integer(count, "count", 1)
    rng = np.random.default_rng(seed)
    found = _probabilities(model)
    return [{t: [bool(rng.random() < p[0]) for p in chances] for t, chances in found.items()} for _ in range(count)]


def _probabilities(model: MultiTaskModel) -> dict[str, list[np.ndarray]]:
    gates = [stage for stage in model.layers if isinstance(stage, PolicyStage)]
    if not gates:
        raise ValueError(f"`model` should be one of `adashare` that learns its policy. Received: model '{model.name}'")
    found = {task: [] for task in model.tasks}
    for stage in sorted(gates, key=lambda stage: stage.block):
        found[stage.scope.partition("/")[0]].append(stage.mixer.coefficients())
    return found


def _run(stage: Stage, tensor: Tensor, index: int, residual: bool) -> Inputs:
    output = call_stage(stage, tensor, f"`stages[{index}]`")
    return layers.Add(name=None)([tensor, output]) if residual else output


def _blocks(inputs: Inputs, placed: Sequence[Stage]) -> list[int]:
    """Places of the stages that keep their input's shape."""
    blocks, spec = [], inputs
    for index, stage in enumerate(placed):
        try:
            after = stage.compute_output_spec(spec)
        except Exception as error:
            shapes = keras.tree.map_structure(lambda x: tuple(x.shape), spec)
            raise ValueError(
                f"`stages[{index}]` ('{stage.name}') should take what comes before it. Received: input of shape "
                f"{shapes}. The layer says: {error}"
            ) from error
        if not isinstance(after, keras.KerasTensor):
            raise ValueError(f"`stages[{index}]` should return one tensor. Received: {after}")
        if isinstance(spec, keras.KerasTensor) and after.shape == spec.shape:
            blocks.append(index)
        spec = after
    if not blocks:
        raise ValueError(
            "At least one of `stages` should keep its input's shape, so that a task can skip it. Received: stages "
            f"{[stage.name for stage in placed]}, none of which does"
        )
    return blocks


def _check_policy(
    policy: Mapping[str, Sequence[bool]] | None, tasks: Tasks, count: int
) -> dict[str, list[bool]] | None:
    if policy is None:
        return None
    good = isinstance(policy, dict) and set(policy) == set(tasks)
    if not good or any(len(runs) != count for runs in policy.values()):
        raise ValueError(
            f"`policy` should say for each task of {list(tasks)} whether it runs each of the {count} blocks. "
            f"Received: policy={policy!r}"
        )
    wrong = {task: runs for task, runs in policy.items() if any(run not in (0, 1) for run in runs)}
    if wrong:
        raise ValueError(f"`policy` should hold True and False, or 1 and 0. Received: {wrong!r}")
    return {task: [bool(run) for run in runs] for task, runs in policy.items()}
