"""Denoisers: what deviations from the generator's picture are regularised by."""
