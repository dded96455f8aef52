"""Weights files: what is registered, where it is found, how it is read without running it."""
