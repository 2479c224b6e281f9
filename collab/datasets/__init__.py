"""Named sets of ratings: MovieLens, downloaded and parsed, and synthetic ones."""
