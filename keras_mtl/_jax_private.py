"""What JAX gives in no interface that it keeps stable, each in one small function: all on its programs, `jaxpr`s.

Nothing else in the package touches such a member of JAX. See
`keras_mtl/_keras_private.py`. Programs are what `jax.make_jaxpr` returns. Their
`constvars`, `invars`, `outvars` and `eqns`, and the `invars`, `outvars` and `params`
of each of these, are in JAX' documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_mtl._types import Structure, Tensor

Program = Any  # jax.extend.core.Jaxpr
Equation = Any  # jax.extend.core.JaxprEqn


def needed_for(program: Program, wanted: Sequence[bool]) -> tuple[Program, list[bool]]:
    """A program without what does not lead to some of its outputs, also within its nested programs.

    Args:
        program: The program.
        wanted: List of booleans, one for each output.

    Returns:
        Tuple of the program, of the wanted outputs alone and of the inputs that
        lead to them, and a list of booleans: which inputs these are.
    """
    from jax.interpreters.partial_eval import dce_jaxpr

    return dce_jaxpr(program, list(wanted))


def with_parts(program: Program, inputs: Sequence[Structure], equations: Sequence[Equation]) -> Program:
    """A program with other inputs and equations, and the same constants and outputs."""
    return program.replace(invars=list(inputs), eqns=list(equations))


def as_function(program: Program, constants: Sequence[Tensor]) -> Callable[..., list[Tensor]]:
    """A function of a program's inputs that gives its outputs."""
    from jax.extend import core

    function = core.jaxpr_as_fun(core.ClosedJaxpr(program, constants))
    return lambda *inputs: function(*inputs)


def is_variable(atom: object) -> bool:
    """Whether what an equation takes, or a program gives, has a name; else it is a number."""
    from jax.extend import core

    return not isinstance(atom, core.Literal)


def is_product(equation: Equation) -> bool:
    """Whether an equation is a product of two arrays of any rank, `jax.lax.dot_general`."""
    from jax.extend.core import primitives

    return equation.primitive is primitives.dot_general_p


def values_of(equation: Equation, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of one equation of a program."""
    primitive = equation.primitive
    found = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(found) if primitive.multiple_results else [found]
