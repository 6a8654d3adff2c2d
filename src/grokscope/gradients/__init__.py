"""From (net, loss, samples) to layer factors, Gram matrices and products with the GOP."""

from grokscope.gradients.capture import capture as capture
from grokscope.gradients.distributed import gather as gather
from grokscope.gradients.factors import Factors as Factors
from grokscope.gradients.ntk import empirical_ntk as empirical_ntk
