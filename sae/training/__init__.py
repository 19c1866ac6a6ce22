"""Trains many dictionaries at once on one stream of activations: recipes, architectures with hand-written gradients."""
