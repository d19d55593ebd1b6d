"""The derivative of a step's losses as a program of JAX, through which gradients are pulled back."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keras_mtl._jax_private import (
    Equation,
    Program,
    as_function,
    is_product,
    is_variable,
    needed_for,
    values_of,
    with_parts,
)
from keras_mtl._types import Structure, Tensor


class KernelGradient(NamedTuple):
    """The gradient of a dense kernel, `inputs^T delta`, which nobody has multiplied out.

    Attributes:
        inputs: float32 array of shape `(..., n)`.
        delta: float32 array of shape `(..., m)`.
    """

    inputs: Tensor
    delta: Tensor

    def product(self) -> Tensor:
        """Array of shape `(n, m)`."""
        inputs, delta = (factor.reshape(-1, factor.shape[-1]) for factor in self)
        return jnp.matmul(inputs.T, delta)


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
        taken_out = {id(equation) for equation in products.values()}
        rest = with_parts(program, inputs, [equation for equation in program.eqns if id(equation) not in taken_out])
        shapes = [jax.ShapeDtypeStruct(each.aval.shape, each.aval.dtype) for each in inputs]
        pulled = jax.linear_transpose(as_function(rest, self._program.consts), *shapes)(list(cotangents))
        found = iter(
            KernelGradient(constants[products[each].invars[0]], gradient) if each in products else gradient
            for each, gradient in zip(program.invars, pulled, strict=True)
        )
        return [next(found) if used else None for used in reached]

    def to_outputs(self, wanted: Sequence[bool], cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Pulls gradients of outputs back to these very outputs, where later ones are computed with earlier ones."""
        program = self._program.jaxpr
        outputs = [out for out, used in zip(program.outvars, wanted, strict=True) if used]
        zeros = [jnp.zeros_like(value) for value in self._inputs]

        def moved(*shifts: Any) -> list[Tensor]:
            by_output = {out: move for out, move in zip(outputs, shifts, strict=True) if is_variable(out)}
            found = _evaluate(program, [*self._program.consts, *zeros], by_output)
            found = [value for value, used in zip(found, wanted, strict=True) if used]
            # What no variable reaches, such as inputs, is a constant of the program.
            pairs = zip(outputs, found, shifts, strict=True)
            return [value if out in by_output else value + shift for out, value, shift in pairs]

        return list(jax.linear_transpose(moved, *cotangents)(list(cotangents)))


def _products_of_kernels(program: Program, constants: Mapping[Any, Tensor]) -> dict[Any, Equation]:
    """The equations `A W` with an input W that nothing else uses, by W: those of dense layers, in float32."""
    atoms = [*program.outvars, *(atom for equation in program.eqns for atom in equation.invars)]
    uses = collections.Counter(filter(is_variable, atoms))
    kernels, found = {one for one in program.invars if one.aval.ndim == 2 and uses[one] == 1}, {}
    for equation in program.eqns:
        if not is_product(equation) or not all(map(is_variable, equation.invars)):
            continue
        (left, right), options = equation.invars, equation.params
        of_features = options["dimension_numbers"] == (((left.aval.ndim - 1,), (0,)), ((), ()))
        of_floats = all(atom.aval.dtype == jnp.float32 for atom in (left, right, *equation.outvars))
        if left in constants and right in kernels and of_features and of_floats and options["precision"] is None:
            found[right] = equation
    return found


def _evaluate(program: Program, values: Sequence[Tensor], moves: Structure) -> list[Tensor]:
    """Evaluates a program, and adds to some of its variables as soon as they are there."""
    known = dict(zip([*program.constvars, *program.invars], values, strict=True))

    def read(atom: Structure) -> Tensor:
        return known[atom] if is_variable(atom) else atom.val

    for equation in program.eqns:
        for variable, value in zip(
            equation.outvars, values_of(equation, list(map(read, equation.invars))), strict=True
        ):
            known[variable] = value + moves[variable] if variable in moves else value
    return [read(atom) for atom in program.outvars]
