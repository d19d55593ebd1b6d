"""Time and memory of a training step: every kind of weighting, plain Keras, TorchJD.

The turns are interleaved and what counts is the ratio within one run. TorchJD
is measured on the same network, batch and tasks where it is installed. Both
run on a GPU where they see one; `TF_FORCE_GPU_ALLOW_GROWTH=true` lets them share it.

    python recipes/benchmarks/step_time.py [--network lenet mlp] [--tasks 2 8]
    python recipes/benchmarks/step_time.py --growth
    python recipes/benchmarks/step_time.py --backend jax [--variants equal upgrad "upgrad, features"]
"""

import os
import subprocess
import sys
import time

import shared

import keras
import torchjd_steps

import keras_mtl

LOSSES = ("equal", "uncertainty", "dwa", "famo", "stch", "pbi", "cosmos")
GRADIENTS = ("mgda", "pcgrad", "fairgrad", "cagrad", "nash", "upgrad", "pcd")
VARIANTS = {
    **{name: {"weighting": name} for name in (*LOSSES, *GRADIENTS)},
    "upgrad, smoothing=0.9": {"weighting": keras_mtl.weighting.serialize(keras_mtl.weighting.UPGrad(smoothing=0.9))},
    "upgrad, features": {"weighting": "upgrad", "gradients": "features"},
    "upgrad, every=4": {"weighting": keras_mtl.weighting.serialize(keras_mtl.weighting.UPGrad(every=4))},
    "upgrad, gramian_fraction=1/8": {"weighting": "upgrad", "gramian_fraction": 0.125},
    "mgda, features": {"weighting": "mgda", "gradients": "features"},
    "mgda, last_shared": {"weighting": "mgda", "gradients": "last_shared"},
}
GROWTH = ("equal", "upgrad", "upgrad, features", "upgrad, gramian_fraction=1/8")


def compiled(network, num_tasks, name, jit_compile=False):
    """A model compiled as one of the variants, or as plain Keras."""
    model = shared.make_model(network, num_tasks)
    options = {**shared.compile_options(num_tasks), "jit_compile": jit_compile}
    if name == "plain Keras":
        model = shared.plain(model)
        model.compile(**options)
        return model
    model.compile(**options, **VARIANTS[name])
    return model


def measure(network, num_tasks, names, batch_size, steps, rounds, torch_names, clock, jit_compile):
    """Milliseconds per step of every variant, `rounds` turns each, and seconds of the first step, tracing included."""
    models = {name: compiled(network, num_tasks, name, jit_compile) for name in ("plain Keras", *names)}
    sizes = (network, num_tasks, batch_size, clock)
    worker = torchjd_steps.Worker(torchjd_steps.__file__, *sizes) if torch_names else None
    others = {f"TorchJD {name}": lambda name=name: float(worker.ask(f"{steps} {name}")) for name in torch_names}
    data = shared.make_data(network, num_tasks, batch_size, steps)
    first = {}
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(data.take(1), epochs=1, verbose=0)
        first[name] = time.perf_counter() - start
    seconds = time.process_time if clock == "cpu" else time.perf_counter
    times = shared.step_times({name: (model, data) for name, model in models.items()}, rounds, seconds, others)
    if worker:
        worker.close()
    return times, first


def main():
    args = shared.options_of(
        __doc__,
        network=shared.NETWORKS,
        tasks=[2, 8],
        batch_size=256,
        steps=30,
        rounds=7,
        variants=VARIANTS,
        growth=(False, "few variants, 2 to 64 tasks"),
        cpu_time=shared.CPU_TIME,
        memory=(False, "peak memory too, one process for each variant"),
        jit_compile=(False, "compile the Keras models with XLA"),
        backend=(tuple(dict.fromkeys((keras.config.backend(), "tensorflow", "jax"))), ""),
    )
    if args.backend != keras.config.backend():  # Keras reads it once, when it is imported
        environment = {**os.environ, "KERAS_BACKEND": args.backend}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    if args.backend == "jax":  # where a step that is not compiled is an eager one
        args.jit_compile = True
    if args.growth:
        args.tasks = [2, 4, 8, 16, 32, 64]
    names = GROWTH if args.growth else args.variants
    torch_names = ()
    if torchjd_steps.available():
        torch_names = ("plain sum", "UPGrad") if args.growth else torchjd_steps.choices()
    else:
        print("torch and torchjd are not installed: TorchJD is left out.")

    for network in args.network:
        for num_tasks in args.tasks:
            clock = "cpu" if args.cpu_time else "wall"
            sizes = (args.batch_size, args.steps, args.rounds)
            times, first = measure(network, num_tasks, names, *sizes, torch_names, clock, args.jit_compile)
            title = f"{args.backend}, {network}, {num_tasks} tasks, batches of {args.batch_size}"
            title += ", XLA" * args.jit_compile
            rows = []
            for name, measured in times.items():
                base = times["TorchJD plain sum" if name.startswith("TorchJD") else "plain Keras"]
                rows.append([name, *shared.beside(measured, base), f"{first[name]:.1f}" if name in first else ""])
                if args.memory and not name.startswith("TorchJD"):
                    peak = shared.peak_memory(
                        compiled, (network, num_tasks, name, args.jit_compile), network, num_tasks, args.batch_size
                    )
                    rows[-1].append(f"{peak:.0f}")
            shared.print_table(title, ["variant", *shared.TIMES, "first step, s", *["peak MiB"] * args.memory], rows)


if __name__ == "__main__":
    main()
