"""Restorations without any network, to compare with: formulas and other people's packages, one image at a time."""
