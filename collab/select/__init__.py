"""Model selection: which model is worth it, by the same ratings and with the differences that are chance marked."""
