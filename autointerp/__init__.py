"""Measures how interpretable the features inside a language model are.

import autointerp
run = autointerp.run("demo")
run.leaderboard()
"""

from autointerp.api import Run, calibrate, estimate, open_run, run, study

__all__ = ["Run", "calibrate", "estimate", "open_run", "run", "study"]
