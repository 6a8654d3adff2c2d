"""Plain torch modules; they know nothing of tasks, losses or training."""
