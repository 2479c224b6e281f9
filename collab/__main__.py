"""`python -m collab` is the command line."""

from .cli import main

main()
