"""Neural module networks: each question has a layout, which says how modules are put together to answer it.

`neural_module_network` builds one network for every signature of layouts out of shared modules, `query_layout` writes
layouts, `group_by_layout` and `predict_by_layout` sort questions by theirs; the layers are the modules.
"""

from keras_mtl.modular.by_layout import group_by_layout, predict_by_layout
from keras_mtl.modular.combine_module import CombineModule
from keras_mtl.modular.describe_module import DescribeModule
from keras_mtl.modular.find_module import FindModule
from keras_mtl.modular.layout_word import LayoutWord
from keras_mtl.modular.layouts import query_layout
from keras_mtl.modular.measure_module import MeasureModule
from keras_mtl.modular.neural_module import NeuralModule
from keras_mtl.modular.neural_module_network import neural_module_network
from keras_mtl.modular.transform_module import TransformModule

__all__ = [
    "CombineModule",
    "DescribeModule",
    "FindModule",
    "LayoutWord",
    "MeasureModule",
    "NeuralModule",
    "TransformModule",
    "group_by_layout",
    "neural_module_network",
    "predict_by_layout",
    "query_layout",
]
