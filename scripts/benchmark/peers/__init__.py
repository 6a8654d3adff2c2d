"""What gop_sample.py compares, and the environment in which the comparison runs."""
