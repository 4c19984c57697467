"""`python -m core` is `recurra`."""

from core.cli import main

main()
