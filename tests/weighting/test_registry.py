"""What a new weighting has to be in: its file, the package's face, and the guide."""

import pathlib
import pkgutil

import pytest

from keras_mtl import weighting as W

BASES = (W.Weighting, W.GramianWeighting, W.JacobianWeighting, W.FeatureWeighting, W.Sequential)
KINDS = {"base", "feature_weighting", "gramian_weighting", "jacobian_weighting"}
NO_METHODS = {*KINDS, "custom_loop", "registry", "sequential"}
GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guide" / "weightings.md"


def public_methods():
    values = [getattr(W, name) for name in W.__all__]
    return {v for v in values if isinstance(v, type) and issubclass(v, W.Weighting) and v not in BASES}


def test_every_method_of_the_face_has_one_name_and_every_name_a_method():
    by_name = [type(W.get(name)) for name in W.names()]
    assert len(set(by_name)) == len(by_name)
    assert set(by_name) == public_methods()


def test_modules_that_are_no_method_are_private():
    modules = {module.name for module in pkgutil.iter_modules(W.__path__) if not module.name.startswith("_")}
    homes = {method.__module__.rpartition(".")[2] for method in public_methods()}
    assert modules == homes | NO_METHODS


@pytest.mark.parametrize("name", W.names())
def test_the_guide_has_a_row_of_it(name):
    assert f"\n| `{name}` | " in GUIDE.read_text()
