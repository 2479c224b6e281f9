"""Ratings: reading, checking, encoding, splitting and batching them."""
