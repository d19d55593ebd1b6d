"""What the training step needs of a backend: `core` is that of the backend that Keras runs on.

A core is one module with these names, all else of a step is written in `keras.ops`:

- `Pullback(function, variables, tensors)`: values of `function` and, one after the other, gradients of its outputs.
- `scale`, `add`, `choose`, `dense`, `entries`: arithmetic of gradients, which may be sparse; `without_logits`.
- `factored(gradients, target)`: task gradients of a dense kernel in a cheaper form, or `None`.
- `apply_if(condition, optimizer, pairs)`, `branches_are_free(model)`, `build_optimizer(model)`.
- `replicas()`, `all_reduce(tensors)`, `as_logs(model, logs)`.
- `number_of_rows`, `first_rows`, `rows_apart`, `floats_in`: batches of dense, ragged and sparse tensors.
- `traced(function)`, `outside_of_traces()`.
"""

import importlib

import keras

core = importlib.import_module(f"keras_mtl.training.backends.{keras.backend.backend()}")
