"""Plain torch modules; they know nothing of tasks, losses or training.

Every net also offers a fast way through a fixed set of inputs: ``plan = net.share(inputs)``,
once, then ``net.forward_shared(plan)`` at each step. Values and gradients equal those of
``net(inputs)`` up to rounding; ``share`` returns None where nothing can be shared.
"""

from grokscope.nets.initialise import doshi_std, levi_std
from grokscope.nets.linear import LinearEstimator
from grokscope.nets.lookup import Lookup
from grokscope.nets.mlp import MLP
from grokscope.nets.transformer import OneLayerTransformer, TransformerPlan

__all__ = [
    "MLP",
    "LinearEstimator",
    "Lookup",
    "OneLayerTransformer",
    "TransformerPlan",
    "doshi_std",
    "levi_std",
]
