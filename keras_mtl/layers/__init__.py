"""The Keras layers that the builders are made of."""

from keras_mtl.layers.attention_mask import AttentionMask
from keras_mtl.layers.bottleneck_adapter import BottleneckAdapter
from keras_mtl.layers.cross_stitch import CrossStitch
from keras_mtl.layers.dselect_k_gate import DSelectKGate
from keras_mtl.layers.gate import ExpertMixture, Gate
from keras_mtl.layers.gradient_reversal import GradientReversal
from keras_mtl.layers.join import Join
from keras_mtl.layers.lora import LoRAKernels, LoRAStage
from keras_mtl.layers.native_experts import NativeExperts
from keras_mtl.layers.nddr import NDDR
from keras_mtl.layers.orthogonal_stage import OrthogonalStage
from keras_mtl.layers.safe_batch_normalization import SafeBatchNormalization
from keras_mtl.layers.stage import Stage
from keras_mtl.layers.subspace_stitch import LayerStitch, SubspaceStitch
from keras_mtl.layers.tied_stage import TiedStage

__all__ = [
    "NDDR",
    "AttentionMask",
    "BottleneckAdapter",
    "CrossStitch",
    "DSelectKGate",
    "ExpertMixture",
    "Gate",
    "GradientReversal",
    "Join",
    "LayerStitch",
    "LoRAKernels",
    "LoRAStage",
    "NativeExperts",
    "OrthogonalStage",
    "SafeBatchNormalization",
    "Stage",
    "SubspaceStitch",
    "TiedStage",
]
