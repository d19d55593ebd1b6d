"""Sinusoids that tell places apart."""

import numpy as np
from keras import ops


def sinusoids(x):
    """Sines and cosines of the places along the second axis, from 1.

    Args:
        x: Tensor of shape `(batch, t, features)`, to which they can be added.

    Returns:
        Tensor of shape `(1, t, features)`.
    """
    half = (x.shape[-1] + 1) // 2
    rates = np.exp(-np.log(1e4) * np.arange(half) / half).astype("float32")
    places = ops.cast(ops.arange(ops.shape(x)[1]), "float32") + 1.0
    angles = places[:, None] * rates[None, :]
    waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)[:, : x.shape[-1]]
    return ops.cast(waves[None], x.dtype)
