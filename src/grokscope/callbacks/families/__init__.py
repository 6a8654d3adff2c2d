"""Progress measures of single families of experiments."""
