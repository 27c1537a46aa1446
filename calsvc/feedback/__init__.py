"""Predictions that wait for their truth, and what the truth says of them."""
