"""The operations of one optimized training step, beside plain Keras: a proxy for what a GPU has to launch.

A GPU without XLA launches one kernel for each operation, and waits where the host needs a value that it computes.
`without a wait` is the step as it is traced where a branch in the graph would cost one (a GPU without XLA, with
`on_nonfinite="raise"`), `all or nothing` the step as it is traced here and under XLA.

    python recipes/benchmarks/step_operations.py [--network lenet mlp] [--tasks 2 8] [--optimizer adam]
"""

import collections

from shared import NETWORKS, compile_options, make_data, make_model, options_of, plain, print_table

import keras
import numpy as np
import tensorflow as tf

from keras_mtl._tensorflow_private import optimized_graph
from keras_mtl.training.backends import core

VARIANTS = {
    "equal": {},
    "uncertainty": {"weighting": "uncertainty"},
    "dwa": {"weighting": "dwa"},
    "geometric": {"weighting": "geometric"},
    "imtl_l": {"weighting": "imtl_l"},
    "stch": {"weighting": "stch"},
    "equal, skip_step": {"on_nonfinite": "skip_step"},
    "equal, skip_task": {"on_nonfinite": "skip_task"},
    "mgda": {"weighting": "mgda"},
    "mgda, features": {"weighting": "mgda", "gradients": "features"},
}
# Nothing is computed by these.
FREE = {"Const", "Identity", "IdentityN", "NoOp", "Placeholder", "_Arg", "_Retval", "_DeviceArg", "_DeviceRetval"}
# The host decides on a value, or computes it.
WAITS = {"If", "While", "Switch", "Assert", "PyFunc", "EagerPyFunc", "Where", "Unique"}


def optimized(model, batch):
    """Names of the operations of one optimized step, those of functions that it calls among them."""
    step = tf.function(lambda batch: model.train_step(batch), autograph=False)
    model.build_optimizer() if hasattr(model, "build_optimizer") else model.optimizer.build(model.trainable_variables)
    graph = optimized_graph(lambda: step(batch))
    bodies = {function.signature.name: function.node_def for function in graph.library.function}
    return collections.Counter(_operations(graph.node, bodies, {}))


def _operations(nodes, bodies, seen):
    for node in nodes:
        called = [attribute.func.name for attribute in node.attr.values() if attribute.WhichOneof("value") == "func"]
        if node.op not in FREE and not (called and "Call" in node.op):
            yield node.op
        for name in called:
            if name in bodies and name not in seen:
                seen[name] = True
                yield from _operations(bodies[name], bodies, seen)


def main():
    args = options_of(__doc__, network=NETWORKS, tasks=[2, 8], optimizer="adam")
    for network in args.network:
        for num_tasks in args.tasks:
            batch = next(iter(make_data(network, num_tasks, 32, 1)))
            options = {**compile_options(num_tasks), "optimizer": args.optimizer}
            whole = plain(make_model(network, num_tasks))
            whole.compile(**options)
            base = optimized(whole, batch).total()
            rows = [["plain Keras", str(base), "1.000", "", "", ""]]
            for name, variant in VARIANTS.items():
                row, waits = [name], collections.Counter()
                free = core.branches_are_free
                for answer in (False, True):
                    core.branches_are_free = lambda model, answer=answer: answer
                    model = make_model(network, num_tasks)
                    model.compile(**options, **variant)
                    found = optimized(model, batch)
                    row += [str(found.total()), f"{found.total() / base:.3f}"]
                    if not answer:
                        waits = {op: count for op, count in found.items() if op.removeprefix("Stateless") in WAITS}
                core.branches_are_free = free
                rows.append([*row, ", ".join(f"{count} {op}" for op, count in waits.items())])
            title = f"{network}, {num_tasks} tasks, {args.optimizer}: operations of an optimized step"
            header = ["variant", "without a wait", "ratio", "all or nothing", "ratio", "that the host decides"]
            print_table(title, header, rows)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    np.random.seed(0)
    main()
