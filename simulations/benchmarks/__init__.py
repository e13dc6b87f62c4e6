"""Measurements side by side with Flower's own simulation; ``make bench`` runs them."""
