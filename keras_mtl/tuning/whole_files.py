"""keras-tuner's own files, there whole or not at all."""

import functools

from keras_tuner.src import utils

from keras_mtl.models.saving import whole_file


def keep_files_whole():
    """Has keras-tuner put its JSON files in place only once they are written.

    It empties a file and then writes it, several times in a trial. A search
    that is killed in between leaves an empty `oracle.json`, and the next one
    cannot be made for the same folder. What the files hold does not change.
    """
    if not hasattr(utils.save_json, "__wrapped__"):
        utils.save_json = _whole(utils.save_json)


def _whole(save_json):
    @functools.wraps(save_json)
    def save(path, obj):
        if "://" in str(path):  # no file of this machine
            return save_json(path, obj)
        with whole_file(path) as part:
            return save_json(str(part), obj)

    return save
