"""LightningModules: loss, accuracy, optimizer, and the training loop of small models."""
