"""Changes a dictionary's features on their way through the model and measures what that does to its predictions."""
