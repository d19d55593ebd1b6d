"""A task's policy for one block: run it or skip it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.layers.stage import Stage

FORMS = ("paper", "code")


@keras.saving.register_keras_serializable(package="keras_mtl")
class PolicyStage(Stage):
    """Holds the gate of a task that selects or skips a block, and what that adds to the loss.

    The stages of all tasks for one block know each other by name; the first
    one adds the terms of all of them. With `p_k = softmax(a_k)_1` the probability that task k
    selects block l of L (from 1, bottom first), they add

    - `form="paper"`: `sparsity sum_k log p_k + sharing (L - l) / L sum_{i<j} |p_i - p_j|`
    - `form="code"`: `sparsity sum_k -log(1 - p_k) / L + sharing l / L sum_{i<j} |a_i1 - a_j1|`

    as long as the gate has a choice, that is once its warm-up is over.

    Args:
        stack: List with the gate, a `GumbelGate` of two options of which the
            first selects.
        scope: String. `<task>/policy/<block>`.
        partners: List of names of the stages of all tasks, this one among them.
        block: Integer. l, counted from 1.
        num_blocks: Integer. L.
        sparsity: Float. Times the first term.
        sharing: Float. Times the second term.
        form: `"paper"` or `"code"`.
        name: String. Name of the stage.

    Call arguments:
        inputs: What the gate takes.

    Returns:
        What the gate returns.

    Reference:

    - X. Sun et al., "AdaShare: Learning What To Share For Efficient Deep Multi-Task Learning", NeurIPS 2020, and its
      official code, whose terms differ from the paper's.
    """

    def __init__(
        self,
        stack: Sequence[keras.Layer],
        scope: str,
        partners: Sequence[str],
        block: int,
        num_blocks: int,
        sparsity: float,
        sharing: float,
        form: Literal["paper", "code"],
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(stack, scope, name=name, **kwargs)
        if form not in FORMS:
            raise ValueError(f"`form` should be one of {FORMS}. Received: form={form!r}")
        self.partners = list(partners)
        self.block = block
        self.num_blocks = num_blocks
        self.sparsity = check_number(sparsity, "sparsity")
        self.sharing = check_number(sharing, "sharing")
        self.form = form

    def joint_loss(self, stages: Mapping[str, keras.Layer]) -> Tensor | None:
        """What the policies of one block add to the loss.

        Args:
            stages: Dict from name to layer of the model that holds them.

        Returns:
            Scalar, or `None` where another stage adds the terms.
        """
        present = [stages[name] for name in self.partners if name in stages]
        if not present or present[0] is not self:
            return None
        logits = ops.stack([ops.cast(stage.mixer.logits, "float32") for stage in present])
        if self.form == "paper":
            select, height = ops.softmax(logits)[:, 0], (self.num_blocks - self.block) / self.num_blocks
            sparsity = ops.sum(ops.log_softmax(logits)[:, 0])
        else:
            select, height = logits[:, 0], self.block / self.num_blocks
            sparsity = -ops.sum(ops.log_softmax(logits)[:, 1]) / self.num_blocks
        apart = ops.sum(ops.abs(select[:, None] - select[None, :])) / 2
        return present[0].mixer.chooses * (self.sparsity * sparsity + self.sharing * height * apart)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "partners": self.partners,
            "block": self.block,
            "num_blocks": self.num_blocks,
            "sparsity": self.sparsity,
            "sharing": self.sharing,
            "form": self.form,
        }
