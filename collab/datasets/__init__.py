"""Named sets of ratings: MovieLens, fetched and read, and synthetic ones."""
