"""The command line: `collab`, or `python -m collab`."""

from .app import main

__all__ = ["main"]
