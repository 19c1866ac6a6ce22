"""Training: recipes, architectures with written gradients, many dictionaries at once on one stream of activations."""
