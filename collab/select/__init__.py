"""Model selection: comparing models, and tuning their settings."""
