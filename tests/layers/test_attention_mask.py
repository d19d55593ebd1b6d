"""The mask of a task over a stage's features."""

import pytest

from keras_mtl.layers import AttentionMask


@pytest.mark.parametrize("hidden", [0, -3, 1.5, True])
def test_hidden_is_a_size(hidden):
    """0 was taken for the default, and -3 was refused by another layer's words."""
    with pytest.raises(ValueError, match="`hidden` should be `None` or an integer of at least 1"):
        AttentionMask(4, hidden=hidden)
