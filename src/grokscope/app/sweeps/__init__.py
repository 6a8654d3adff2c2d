"""Sweeps: which runs there are to do, and who does them."""
