"""Training: a loop and callbacks, for any model on any batches."""
