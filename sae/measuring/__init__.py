"""Measures dictionaries: on text, against each other, and by their weights alone."""
