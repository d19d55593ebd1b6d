"""Layers that are frozen or released while training runs."""

from keras_mtl._keras_private import layers_of


class Freezing:
    """Notices when what is trainable changes, and has the step made anew.

    Keras reads `trainable` when it traces the training step. A layer that a
    callback freezes in the middle of `fit` would train on, without a word.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model):
        self._model = model
        self._parts = [*layers_of(model), *model.variables]
        self._flags = self._read()

    def _read(self):
        return [part.trainable for part in self._parts]

    def follow(self):
        """Makes the step anew if a layer or variable was frozen or released.

        Raises:
            ValueError: If a weighting needs shared trainable variables and
                there are none any more.
        """
        flags = self._read()
        if flags != self._flags:
            self._flags = flags
            self._model.make_train_function(force=True)
