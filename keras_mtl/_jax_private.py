"""What no documented interface of JAX gives, each in one small function.

Nothing else in the package touches such a member of JAX. See
`keras_mtl/_keras_private.py`. Importing this imports JAX.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend import core as jaxprs

from keras_mtl._types import Tensor


def needed_for(program: jaxprs.Jaxpr, wanted: Sequence[bool]) -> tuple[jaxprs.Jaxpr, list[bool]]:
    """A program without what does not lead to some of its outputs, also within its nested programs.

    Args:
        program: `jax.extend.core.Jaxpr`.
        wanted: List of booleans, one for each output.

    Returns:
        Tuple of the program, of the wanted outputs alone and of the inputs that
        lead to them, and a list of booleans: which inputs these are.
    """
    from jax.interpreters.partial_eval import dce_jaxpr

    return dce_jaxpr(program, list(wanted))


def with_parts(
    program: jaxprs.Jaxpr, inputs: Sequence[jaxprs.Var], equations: Sequence[jaxprs.JaxprEqn]
) -> jaxprs.Jaxpr:
    """A program with other inputs and equations, and the same constants and outputs."""
    return program.replace(invars=list(inputs), eqns=list(equations))


def values_of(equation: jaxprs.JaxprEqn, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of one equation of a program."""
    primitive = equation.primitive
    found = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(found) if primitive.multiple_results else [found]
