"""Retrieval: exact top-k, the index, and the vectors of new users."""
