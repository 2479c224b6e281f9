"""Callbacks: what happens in a fit, beside the loop itself."""
