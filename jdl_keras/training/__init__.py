"""Training: the custom step, strategies, callbacks, checkpoints and the loop."""
