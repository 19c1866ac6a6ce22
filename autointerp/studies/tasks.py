"""Studies whether the subject does the tasks on which the other parts measure: on what was held out of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Figure, Session, Study, figure

PROMPTS = 300
"""Prompts of each task."""


class Tasks(Study):
    """Asks a model for the next word of prompts with a known answer."""

    name = "tasks"
    title = (
        "A transformer of three layers, trained on a seeded grammar (for a toy), or the model itself is asked for the "
        "next word. Share of prompts whose right word is the most probable of all tokens; 95% is needed for the parts "
        "that edit it."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Ask for indirect objects, pronouns, fixed sequences and words of several scripts."""
        from autointerp.sampling.experiments import task_answers

        return task_answers(session, PROMPTS)

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return the accuracy of each task."""
        return [
            figure(task, mean_interval([float(one) for one in answers], (0.0, 1.0)), len(answers))
            for task, answers in measured["answers"].items()
        ]


STUDIES.register("tasks", Tasks)
