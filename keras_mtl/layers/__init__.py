"""The Keras layers that the builders are made of."""

from keras_mtl.layers.stage import Stage

__all__ = ["Stage"]
