"""Scorers: from what was predicted or judged to a number that may not exist. One idea per file."""
