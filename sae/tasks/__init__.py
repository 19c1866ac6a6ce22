"""Makes text with known tasks in it, trains a small transformer that does them, and asks any model whether it does."""
