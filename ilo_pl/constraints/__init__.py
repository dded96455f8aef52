"""Constraints as projections: where variables may go."""
