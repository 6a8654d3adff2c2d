"""From tensors to numbers: pure functions."""
