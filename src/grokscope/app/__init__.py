"""The only Hydra code of the package: configurations to runs, mistakes to one line."""
