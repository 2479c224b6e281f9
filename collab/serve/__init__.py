"""Recommendations over HTTP, and a page to try them on: `service` makes the application of a model or an index."""

from .service import service as service
