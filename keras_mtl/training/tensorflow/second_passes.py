"""Forward passes in training mode that are no training steps."""

import contextlib

import keras


class SecondPasses:
    """Further forward passes of one training step, of which nothing remains.

    Moving averages, counters and what else layers keep stay as the step's own
    pass has left them. Draws go on from pass to pass, so that what is drawn is
    independent, and after the last one from where the step's own pass ended.

    Args:
        model: The model.
    """

    def __init__(self, model):
        weights = {id(variable) for variable in model.non_trainable_weights}
        self._seeds = [v for v in model.non_trainable_variables if id(v) not in weights]
        self._drawn = []

    @contextlib.contextmanager
    def one(self):
        """Within it, variables keep what a pass assigns to them to itself."""
        with keras.StatelessScope(state_mapping=self._drawn) as scope:
            yield
        drawn = [(seed, scope.get_current_value(seed)) for seed in self._seeds]
        self._drawn = [(seed, value) for seed, value in drawn if value is not None]
