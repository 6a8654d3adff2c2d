"""Lightning glue: when to measure, what, and where it goes."""
