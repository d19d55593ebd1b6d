"""The derivative of a step's losses as a program of JAX, through which gradients are pulled back."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core as jaxprs
from jax.extend.core import primitives

from keras_mtl._jax_private import needed_for, values_of, with_parts
from keras_mtl._types import Structure, Tensor


class KernelGradient(NamedTuple):
    """The gradient of a dense kernel, `inputs^T delta`, which nobody has multiplied out.

    Attributes:
        inputs: float32 array of shape `(rows, n)`.
        delta: float32 array of shape `(rows, m)`.
    """

    inputs: Tensor
    delta: Tensor

    def product(self) -> Tensor:
        """Array of shape `(n, m)`."""
        return jnp.matmul(self.inputs.T, self.delta)


class LinearProgram:
    """A linear function of some inputs.

    Args:
        function: Function of `inputs`, linear, that gives a list of arrays.
        inputs: List of arrays.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        self._program = jax.make_jaxpr(function)(*inputs)
        self._inputs = list(inputs)

    def to_inputs(self, wanted: Sequence[bool], cotangents: Sequence[Tensor]) -> list[Any]:
        """Pulls gradients of outputs back to the inputs.

        Args:
            wanted: List of booleans: whose gradients these are.
            cotangents: List of arrays, one for each of these outputs.

        Returns:
            List of arrays or `KernelGradient`s, one for each input, `None`
            where none of the outputs depends on it.
        """
        program, reached = needed_for(self._program.jaxpr, wanted)
        if not any(reached):
            return [None] * len(reached)
        constants = dict(zip(program.constvars, self._program.consts, strict=True))
        products = _products_of_kernels(program, constants)
        # Such a product is an input in place of its kernel.
        inputs = [products[kernel].outvars[0] if kernel in products else kernel for kernel in program.invars]
        outside = {id(equation) for equation in products.values()}
        rest = with_parts(program, inputs, [equation for equation in program.eqns if id(equation) not in outside])
        function = jaxprs.jaxpr_as_fun(jaxprs.ClosedJaxpr(rest, self._program.consts))
        shapes = [jax.ShapeDtypeStruct(each.aval.shape, each.aval.dtype) for each in inputs]
        found = jax.linear_transpose(lambda *inputs: function(*inputs), *shapes)(list(cotangents))
        gradients = []
        for kernel, gradient in zip(program.invars, found, strict=True):
            if kernel in products:
                factors = constants[products[kernel].invars[0]], gradient
                gradient = KernelGradient(*(factor.reshape(-1, factor.shape[-1]) for factor in factors))
            gradients.append(gradient)
        rows = iter(gradients)
        return [next(rows) if used else None for used in reached]

    def to_outputs(self, wanted: Sequence[bool], cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Pulls gradients of outputs back to these very outputs, where later ones are computed with earlier ones."""
        program = self._program.jaxpr
        outputs = [out for out, used in zip(program.outvars, wanted, strict=True) if used]
        zeros = [jnp.zeros_like(value) for value in self._inputs]

        def moved(*shifts: Any) -> list[Tensor]:
            by_output = {out: move for out, move in zip(outputs, shifts, strict=True) if _is_variable(out)}
            found = _evaluate(program, [*self._program.consts, *zeros], by_output)
            found = [value for value, used in zip(found, wanted, strict=True) if used]
            # What no variable reaches, such as inputs, is a constant of the program.
            pairs = zip(outputs, found, shifts, strict=True)
            return [value if out in by_output else value + shift for out, value, shift in pairs]

        return list(jax.linear_transpose(moved, *cotangents)(list(cotangents)))


def _products_of_kernels(
    program: jaxprs.Jaxpr, constants: Mapping[jaxprs.Var, Tensor]
) -> dict[jaxprs.Var, jaxprs.JaxprEqn]:
    """The equations `A W` with an input W that nothing else uses, by W: those of dense layers, in float32."""
    atoms = [atom for equation in program.eqns for atom in equation.invars] + list(program.outvars)
    uses = collections.Counter(atom for atom in atoms if _is_variable(atom))
    kernels, found = {one for one in program.invars if one.aval.ndim == 2 and uses[one] == 1}, {}
    for equation in program.eqns:
        if equation.primitive is not primitives.dot_general_p or not all(map(_is_variable, equation.invars)):
            continue
        left, right = equation.invars
        over_features = equation.params["dimension_numbers"] == (((left.aval.ndim - 1,), (0,)), ((), ()))
        if not (right in kernels and left in constants and over_features) or equation.params["precision"] is not None:
            continue
        if all(atom.aval.dtype == jnp.float32 for atom in (left, right, *equation.outvars)):
            found[right] = equation
    return found


def _evaluate(program: jaxprs.Jaxpr, values: Sequence[Tensor], moves: Structure) -> list[Tensor]:
    """Evaluates a program, and adds to some of its variables as soon as they are there."""
    known = dict(zip([*program.constvars, *program.invars], values, strict=True))

    def read(atom: Structure) -> Tensor:
        return known[atom] if _is_variable(atom) else atom.val

    for equation in program.eqns:
        for variable, value in zip(
            equation.outvars, values_of(equation, list(map(read, equation.invars))), strict=True
        ):
            known[variable] = value + moves[variable] if variable in moves else value
    return [read(atom) for atom in program.outvars]


def _is_variable(atom: object) -> bool:
    return not isinstance(atom, jaxprs.Literal)
