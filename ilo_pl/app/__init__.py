"""The local web page for people with one photo: ``ilo-pl app``."""
