"""64 bits where solvers need them, on backends that have 32 unless they are told otherwise."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Within it, float64 is float64. Operations on what comes out of it belong in such a context, too.

    JAX makes float32 of it elsewhere, without an error, in which solvers do not converge.
    """
    if keras.config.backend() != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield
