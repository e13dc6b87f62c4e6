"""What both halves of Consilium, the aggregator and the hospital, must agree on. Imports neither half."""
