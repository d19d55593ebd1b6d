"""How losses, masks, weights and labels meet: from labels as people have them to each task's (sum, divisor, count).

An internal room, which imports nothing of `keras_mtl` but its private files and, to find how a
loss goes along axes, the backend's way out of a
trace:

- `arrays`: labels and weights in the containers that people have them in, as dicts of arrays.
- `names`: losses as `compile` takes them, and what is known of those that Keras has.
- `alignment`: the one rule by which masks and weights meet values of any rank.
- `loss_axes`: the labels that a loss takes, and how its values lie along them.
- `labels`: which labels of a batch are known, at which positions, and what they weigh.
- `task_losses`: the tasks' losses on a batch.
"""
