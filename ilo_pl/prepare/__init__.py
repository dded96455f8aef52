"""From photos to what a generator takes, and back: ``ilo-pl prepare``."""
