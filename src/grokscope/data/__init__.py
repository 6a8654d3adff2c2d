"""Tasks: from a definition to tensors to a LightningDataModule."""
