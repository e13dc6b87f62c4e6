"""Differential privacy: secret randomness, noise mechanisms, accounting and private training of neural models."""
