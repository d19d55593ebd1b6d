"""What tests of upstream's private members say when they fail."""

import functools
import importlib.metadata

import pytest


def rests_on(package, members, function):
    """Marks a test of a function that needs private members of a package.

    Args:
        package: String. Name of the package on the registry.
        members: String. The members, for the message.
        function: String. The one function or class of `keras_mtl` that uses them.
    """

    def decorate(test):
        @functools.wraps(test)
        def told(*args, **kwargs):
            try:
                test(*args, **kwargs)
            except Exception as error:
                pytest.fail(
                    f"{package} {importlib.metadata.version(package)} has changed {members}, a private member that "
                    f"`{function}` of keras_mtl/_{package.replace('-', '_')}_private.py needs: {error!r}. What to do: "
                    "look in its release notes and source for a public way, and take it; else mend that function, "
                    "which alone uses the member, so that it works with this version and the lowest in setup.cfg. "
                    "CONTRIBUTING.md says more under 'Private members of other packages'."
                )

        told.function = function
        return told

    return decorate


def untested(module, tests):
    """The functions, classes and constants of a module that no test of `rests_on` names."""
    own = {n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__ and n[0] != "_"}
    own |= {name for name in vars(module) if name.isupper()}
    return own - {test.function for test in tests if hasattr(test, "function")}
