"""Each member of JAX that its documentation does not name, and that is used, does what `_jax_private` needs of it."""

import functools
import importlib

import numpy as np
import pytest

from tests import upstream

jax = pytest.importorskip("jax")
private = importlib.import_module("keras_mtl._jax_private")
rests_on = functools.partial(upstream.rests_on, "jax")


def program_of(function, *shapes):
    """A program of JAX: `{ lambda CONSTANTS ; INPUTS . let EQUATIONS in OUTPUTS }`."""
    return jax.make_jaxpr(function)(*(np.ones(shape, "float32") for shape in shapes))


@rests_on("jax.interpreters.partial_eval.dce_jaxpr", "needed_for")
def test_needed_for():
    nested, constant = jax.jit(lambda x, y: (x * 2.0, y * 3.0)), np.ones(4, "float32")
    whole = program_of(lambda x, y, z: [*nested(x, y), z * constant], (2,), (3,), (4,))
    program, reached = private.needed_for(whole.jaxpr, [True, False, False])
    assert list(reached) == [True, False, False]  # though the nested program takes both
    assert [v.aval.shape for v in program.invars] == [(2,)] and len(program.outvars) == 1
    assert len(program.constvars) == len(whole.consts)  # which stay, each at its place
    (found,) = private.as_function(program, whole.consts)(np.array([1.0, 2.0], "float32"))
    np.testing.assert_array_equal(found, [2.0, 4.0])


@rests_on("jax.extend.core.Jaxpr.replace", "with_parts")
def test_with_parts():
    matrix = np.array([[1.0, 2.0]], "float32")
    whole = program_of(lambda w, x: [jax.numpy.matmul(matrix, w) + x], (2, 3), (1, 3))
    product, *rest = whole.jaxpr.eqns
    program = private.with_parts(whole.jaxpr, [product.outvars[0], whole.jaxpr.invars[1]], rest)
    (found,) = private.as_function(program, whole.consts)(np.full((1, 3), 5.0, "float32"), np.ones((1, 3), "float32"))
    np.testing.assert_array_equal(found, np.full((1, 3), 6.0))
    assert len(whole.jaxpr.eqns) == len(rest) + 1  # which is as it was


@rests_on("jax.extend.core.jaxpr_as_fun, jax.extend.core.ClosedJaxpr", "as_function")
def test_as_function():
    x = np.array([1.0, 2.0], "float32")
    whole = program_of(lambda y, z: [y * x, z], (2,), (1,))
    function = private.as_function(whole.jaxpr, whole.consts)
    first, second = function(x, np.ones(1, "float32"))
    assert np.asarray(first).tolist() == [1.0, 4.0] and np.asarray(second).tolist() == [1.0]
    # Also where it is transposed, which looks at its arguments.
    (back, _) = jax.linear_transpose(function, x, np.ones(1, "float32"))([x, np.ones(1, "float32")])
    assert np.asarray(back).tolist() == [1.0, 4.0]


@rests_on("jax.extend.core.Literal", "is_variable")
def test_is_variable():
    program = program_of(lambda x: [x * 2.0, 3.0], (2,)).jaxpr
    assert [private.is_variable(atom) for atom in program.outvars] == [True, False]
    assert [private.is_variable(atom) for atom in program.eqns[0].invars] == [True, False]
    assert {program.invars[0]: 1}[program.eqns[0].invars[0]] == 1  # one that is used is the very one that is given


@rests_on("jax.extend.core.primitives.dot_general_p", "is_product")
def test_is_product():
    program = program_of(lambda x, y: [jax.numpy.matmul(x, y) + 1.0], (4, 2, 3), (3, 5)).jaxpr
    assert [private.is_product(equation) for equation in program.eqns] == [True, False]
    left, right = program.eqns[0].invars
    assert (left, right) == tuple(program.invars) and left.aval.ndim == 3 and right.aval.dtype == np.float32
    options = program.eqns[0].params
    assert options["dimension_numbers"] == (((2,), (0,)), ((), ())) and options["precision"] is None


@rests_on("Primitive.get_bind_params, Primitive.multiple_results", "values_of")
def test_values_of():
    def function(x):
        multiplied = jax.jit(lambda x: (x * 2.0, x * 3.0))(x)
        return [*multiplied, jax.lax.sort(x), jax.lax.while_loop(lambda x: x[0] < 9.0, lambda x: x * 2.0, x)]

    program, known = program_of(function, (2,)).jaxpr, {}
    x = np.array([4.0, 1.0], "float32")
    for equation in program.eqns:
        found = private.values_of(equation, [x] * len(equation.invars))
        known.update(zip(equation.outvars, found, strict=True))
    values = [np.asarray(known[variable]).tolist() for variable in program.outvars]
    assert values == [[8.0, 2.0], [12.0, 3.0], [1.0, 4.0], [16.0, 4.0]]


def test_all_is_tested():
    assert upstream.untested(private, list(globals().values())) == set()


def test_a_change_upstream_is_told(monkeypatch):
    monkeypatch.delattr("jax.interpreters.partial_eval.dce_jaxpr")
    with pytest.raises(pytest.fail.Exception, match=r"jax \S+ has changed jax.interpreters.*`needed_for`.*What to do"):
        test_needed_for()
