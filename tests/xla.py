"""XLA's flags under test, known before TensorFlow and JAX are imported."""

import importlib.metadata
import importlib.util


def quick_to_compile():
    """What XLA leaves out, since it takes longer than what is compiled here runs: a quarter of the time is left.

    A flag that XLA does not know ends the process, and the second comes and goes: it is for versions that know it.
    """
    flags = ["--xla_backend_optimization_level=0"]
    known = {"tensorflow": "2.21.", "jaxlib": "0.10."}
    installed = [name for name in known if importlib.util.find_spec(name)]
    if all(importlib.metadata.version(name).startswith(known[name]) for name in installed):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)
