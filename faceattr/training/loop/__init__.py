"""The training loop: stages of epochs, steps, validation, the best epoch."""
