"""The Keras layers that the builders are made of."""

from keras_mtl.layers.attention_mask import AttentionMask
from keras_mtl.layers.bottleneck_adapter import BottleneckAdapter
from keras_mtl.layers.cache_attention import CacheAttention
from keras_mtl.layers.combine_module import CombineModule
from keras_mtl.layers.control_vector import ControlVector
from keras_mtl.layers.controlled_features import ControlledFeatures
from keras_mtl.layers.cosine_scores import CosineScores
from keras_mtl.layers.cross_stitch import CrossStitch
from keras_mtl.layers.decoder_tokens import DecoderTokens
from keras_mtl.layers.describe_module import DescribeModule
from keras_mtl.layers.distilled_policy import DistilledPolicy
from keras_mtl.layers.dselect_k_gate import DSelectKGate
from keras_mtl.layers.feed_forward import FeedForward
from keras_mtl.layers.find_module import FindModule
from keras_mtl.layers.gate import ExpertMixture, Gate
from keras_mtl.layers.gradient_reversal import GradientReversal
from keras_mtl.layers.gumbel_gate import GumbelGate
from keras_mtl.layers.information_transfer import FunnelOrder, InformationTransfer
from keras_mtl.layers.join import Join
from keras_mtl.layers.layout_word import LayoutWord
from keras_mtl.layers.lora import LoRAKernels, LoRAStage
from keras_mtl.layers.measure_module import MeasureModule
from keras_mtl.layers.native_experts import NativeExperts
from keras_mtl.layers.nddr import NDDR
from keras_mtl.layers.neural_module import NeuralModule
from keras_mtl.layers.orthogonal_stage import OrthogonalStage
from keras_mtl.layers.personal_gate import PersonalGate
from keras_mtl.layers.policy_stage import PolicyStage
from keras_mtl.layers.safe_batch_normalization import SafeBatchNormalization
from keras_mtl.layers.spatial_cache import SpatialCache
from keras_mtl.layers.spatial_decoder import SpatialDecoder
from keras_mtl.layers.stage import Stage
from keras_mtl.layers.subspace_stitch import LayerStitch, SubspaceStitch
from keras_mtl.layers.temporal_decoder import TemporalDecoder
from keras_mtl.layers.temporal_encoder import TemporalEncoder
from keras_mtl.layers.tied_stage import TiedStage
from keras_mtl.layers.transform_module import TransformModule

__all__ = [
    "NDDR",
    "AttentionMask",
    "BottleneckAdapter",
    "CacheAttention",
    "CombineModule",
    "ControlVector",
    "ControlledFeatures",
    "CosineScores",
    "CrossStitch",
    "DSelectKGate",
    "DecoderTokens",
    "DescribeModule",
    "DistilledPolicy",
    "ExpertMixture",
    "FeedForward",
    "FindModule",
    "FunnelOrder",
    "Gate",
    "GradientReversal",
    "GumbelGate",
    "InformationTransfer",
    "Join",
    "LayerStitch",
    "LayoutWord",
    "LoRAKernels",
    "LoRAStage",
    "MeasureModule",
    "NativeExperts",
    "NeuralModule",
    "OrthogonalStage",
    "PersonalGate",
    "PolicyStage",
    "SafeBatchNormalization",
    "SpatialCache",
    "SpatialDecoder",
    "Stage",
    "SubspaceStitch",
    "TemporalDecoder",
    "TemporalEncoder",
    "TiedStage",
    "TransformModule",
]
