"""Lightning glue: when to measure, what, and where it goes."""

from grokscope.callbacks.gop import GOPCallback

__all__ = ["GOPCallback"]
