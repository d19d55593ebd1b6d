"""What the training step needs of a backend: `core` is that of the backend that Keras runs on.

A core is one module with these names, all else of a step is written in `keras.ops`:

- `run(step, model, ...)`: a step as Keras' trainer calls it. `READS_VARIABLES`: whether it reads any variable as it is,
  else only those of the model's state. `synchronize(model)`: what a callback calls before it reads or assigns state.
- `Pullback(function, variables, tensors)`: values of `function` and, one after the other, gradients of its outputs.
- `cond(condition, true, false)`: of functions that may assign variables. `scope(state_mapping)`: a `StatelessScope`
  that leaves other variables as they are. `LOSSES_STAY`: whether what layers add outlives the call of a `Pullback`.
- `scale`, `add`, `choose`, `dense`, `entries`: arithmetic of gradients, which may be sparse; `without_logits`.
- `factored(gradients, target)`: task gradients of a dense kernel in a cheaper form, or `None`.
- `apply_if(condition, optimizer, pairs)`, `branches_are_free(model)`, `build_optimizer(model)`.
- `replicas()`, `all_reduce(tensors)`, `as_logs(model, logs)`, `several_workers(model)`, `strategy_scope(model)`.
- `number_of_rows`, `size_of_part`, `place_in`, `first_rows`, `rows_apart`, `floats_in`: batches of dense, ragged and
  sparse tensors.
- `traced(function, model)`, `outside_of_traces()`.
"""

import importlib

import keras

core = importlib.import_module(f"keras_mtl.training.backends.{keras.backend.backend()}")
