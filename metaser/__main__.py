"""``python -m metaser``."""

from metaser.cli import main

main()
