"""Holds the architectures of autoencoders: one file each, with its settings (recipe) and how it learns, by name."""
