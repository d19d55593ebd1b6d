"""Penalties: numbers computed from a task's predictions and a column beside the labels, which are added to the loss.

`keras_mtl.fairness` has those of groups; a penalty of one's own subclasses `Penalty`.
"""

from keras_mtl.penalties.penalty import Penalty

__all__ = ["Penalty"]
