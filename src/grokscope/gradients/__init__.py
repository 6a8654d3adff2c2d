"""From gradients to factors of gradient outer products: pure torch."""
