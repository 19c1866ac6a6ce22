"""Shows what was measured. Here stands only what the command line needs to know before anything is loaded."""

from typing import Literal

Order = Literal["best", "worst", "feature", "density"]
"""Orders of a list of features: by the main score, the feature's number, or its density (densest first)."""
