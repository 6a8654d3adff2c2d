"""Plain torch modules; they know nothing of tasks, losses or training.

Every net also offers a fast way through a fixed set of inputs: ``plan = net.share(inputs)``,
once, then ``net.forward_shared(plan)`` at each step. Values and gradients equal those of
``net(inputs)`` up to rounding; ``share`` returns None where nothing can be shared.
"""

from grokscope.nets.analytic import PolynomialExperts, addition_net, multiplication_net
from grokscope.nets.committee import Committee, centred_committee, linearised_committee
from grokscope.nets.decoder import DecoderTransformer
from grokscope.nets.embedding_decoder import EmbeddingDecoder
from grokscope.nets.gpt2 import GPT2
from grokscope.nets.graph import MoleculeNet
from grokscope.nets.initialise import doshi_std, levi_std, power_std
from grokscope.nets.lazy import Centred, Linearised
from grokscope.nets.linear import LinearEstimator
from grokscope.nets.lookup import Lookup
from grokscope.nets.lstm import LastStateLSTM
from grokscope.nets.masking import mask_weights, masks_of
from grokscope.nets.mlp import MLP
from grokscope.nets.ntk_mlp import NTKMLP
from grokscope.nets.pair_nets import BareTransformer, SummedEmbeddingMLP
from grokscope.nets.regularised import MeanFieldMLP, RegularisedMLP
from grokscope.nets.transformer import OneLayerTransformer, TransformerPlan

__all__ = [
    "GPT2",
    "MLP",
    "NTKMLP",
    "BareTransformer",
    "Centred",
    "Committee",
    "DecoderTransformer",
    "EmbeddingDecoder",
    "LastStateLSTM",
    "LinearEstimator",
    "Linearised",
    "Lookup",
    "MeanFieldMLP",
    "MoleculeNet",
    "OneLayerTransformer",
    "PolynomialExperts",
    "RegularisedMLP",
    "SummedEmbeddingMLP",
    "TransformerPlan",
    "addition_net",
    "centred_committee",
    "doshi_std",
    "levi_std",
    "linearised_committee",
    "mask_weights",
    "masks_of",
    "multiplication_net",
    "power_std",
]
