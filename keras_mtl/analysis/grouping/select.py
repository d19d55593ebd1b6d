"""Data of some of the tasks."""

import keras


def labels_of_tasks(data, tasks):
    """The same data with the labels and sample weights of some tasks alone.

    Args:
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset`
            of such tuples, or `None`.
        tasks: Collection of tasks. Those without labels are left out.

    Returns:
        As `data`.
    """

    def select(x, *others):
        return (x, *({t: o[t] for t in tasks if t in o} if isinstance(o, dict) else o for o in others))

    if data is None:
        return None
    if isinstance(data, (tuple, list)):
        return select(*data)
    if not hasattr(data, "map"):
        return _Selected(data, select)
    return data.map(select)


class _Selected(keras.utils.PyDataset):
    """A `PyDataset` whose batches are cut to some tasks."""

    def __init__(self, data, select):
        super().__init__(workers=data.workers, use_multiprocessing=data.use_multiprocessing)
        self._data, self._select = data, select

    def __len__(self):
        return len(self._data)

    def __getitem__(self, index):
        return self._select(*self._data[index])

    def on_epoch_end(self):
        self._data.on_epoch_end()
