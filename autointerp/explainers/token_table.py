"""Makes the token table: every token's mean activation, which Bills et al. 2023 compare explanations with.

Here it is learnt from the explain records, as every explanation is, not from the whole corpus.
"""

import numpy as np

from autointerp.explainers import EXPLAINERS, Explainer
from autointerp.explainers.rules import Candidates, explanation
from autointerp.llm.types import LLMTask
from autointerp.prompting import rules, templates
from autointerp.records import Explanation, FeatureRecord


class TokenTableExplainer(Explainer):
    """Writes one rule per token."""

    forms = name = "token-table"

    def __init__(self) -> None:
        self.prompts = (templates.load(rules.PROMPT),)

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Write one rule per token seen active, strongest first."""
        yield from ()  # asks nobody
        candidates = Candidates.of(feature.explain, ("token",))
        strongest_first = np.argsort(-candidates.strength_R, kind="stable").tolist()
        return explanation([candidates.rule(index) for index in strongest_first], self.name)


EXPLAINERS.register("token_table", TokenTableExplainer)
