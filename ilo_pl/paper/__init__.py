"""The figures and bounds of the paper, and the demo."""
