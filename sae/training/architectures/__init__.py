"""Architectures of autoencoders: one file each, with its settings (recipe) and how it learns, registered by name."""
