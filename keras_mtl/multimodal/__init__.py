"""Tasks of several modalities in one model: OmniNet, its tasks and the layers that it is made of."""

from keras_mtl.multimodal.cache_attention import CacheAttention
from keras_mtl.multimodal.control_vector import ControlVector
from keras_mtl.multimodal.controlled_features import ControlledFeatures
from keras_mtl.multimodal.decoder_tokens import DecoderTokens
from keras_mtl.multimodal.feed_forward import FeedForward
from keras_mtl.multimodal.omninet import OmniTask, decode, omninet
from keras_mtl.multimodal.spatial_cache import SpatialCache
from keras_mtl.multimodal.spatial_decoder import SpatialDecoder
from keras_mtl.multimodal.temporal_decoder import TemporalDecoder
from keras_mtl.multimodal.temporal_encoder import TemporalEncoder

__all__ = [
    "CacheAttention",
    "ControlVector",
    "ControlledFeatures",
    "DecoderTokens",
    "FeedForward",
    "OmniTask",
    "SpatialCache",
    "SpatialDecoder",
    "TemporalDecoder",
    "TemporalEncoder",
    "decode",
    "omninet",
]
