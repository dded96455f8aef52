"""``python -m ilo_pl``: the command ``ilo-pl``."""

from ilo_pl.cli import main

main()
