"""How losses, masks, weights and labels meet: from a batch's labels to each task's (sum, divisor, count).

An internal room, which imports Keras and `keras_mtl.numbers` alone:

- `names`: losses as `compile` takes them, and what is known of those that Keras has.
- `alignment`: the one rule by which masks and weights meet values of any rank.
- `layout`: the labels that a loss takes, and how its values lie along them.
- `labels`: which labels of a batch are known, at which positions, and what they weigh.
- `task_losses`: the tasks' losses on a batch.
"""
