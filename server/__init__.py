"""The aggregator: asks the hospitals for contributions, adds them, and moves the model with the sum alone."""
