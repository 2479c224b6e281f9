"""Recommendations over HTTP, and a page to try them on: `service` makes the application of a model or an index."""

from ..moved import keeps_old_names
from .service import service as service

keeps_old_names(__name__)
