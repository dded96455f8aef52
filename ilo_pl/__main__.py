"""``python -m ilo_pl``, and the command ``ilo-pl``."""

import signal


def main() -> None:
    """Import the command and run it; Ctrl-C in the meantime ends the process without a traceback."""
    # An import that is interrupted may raise anything, and there is nothing to lose yet.
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ilo_pl.cli import main as command  # it takes a second: not before the line above

    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
