"""Takes explanations from a file. Only features that the file explains are sampled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autointerp.explainers import EXPLAINERS, Explainer
from autointerp.explainers.readers import refuse_readers_of_rules
from autointerp.explanation_files import Explanations, read
from autointerp.llm.types import LLMTask
from autointerp.prompting import rules
from autointerp.records import ANY, AnswerError, Explanation, FeatureRecord, entry_of

if TYPE_CHECKING:
    from autointerp.config import Config


class FileExplainer(Explainer):
    """Gives each feature the text that a file has for it."""

    forms = "file:PATH[#AUTHOR]"
    learns = False

    def __init__(self, spec: str, known: Explanations) -> None:
        self.name, self._known = spec, known
        self.contents = {spec: known.digest}
        if known.n_further:
            several = f" (authors, one each by file:PATH#AUTHOR: {', '.join(known.authors)})" if known.authors else ""
            note = f"{known.path}: {known.n_further:,} rows explain a feature again; its first row is used{several}"
            self.notes = (note,)
        self.candidates = {name: tuple(sorted(texts)) for name, texts in known.by_dictionary.items()}

    @classmethod
    def of(cls, spec: str, config: Config) -> FileExplainer:
        """Read the file of `file:PATH`, or only the explanations of one author.

        Raises UserError if it cannot be read, and for prose where the simulator or the judge reads only rules.
        """
        known = read(spec.partition(":")[2])
        own = config.dictionaries
        if len(own.load) + len(own.train) + len(own.baselines) == 1 and len(known.by_dictionary) == 1:
            known = replace(known, by_dictionary={ANY: next(iter(known.by_dictionary.values()))})
        if not all(_is_rules(text) for texts in known.by_dictionary.values() for text in texts.values()):
            refuse_readers_of_rules(spec, config)
        return cls(spec, known)

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Look the feature up. Raises AnswerError if the file does not explain it."""
        yield from ()  # asks nobody
        texts = entry_of(self._known.by_dictionary, feature.id.dictionary) or {}
        if feature.id.index not in texts:
            raise AnswerError(f"{self._known.path.name} does not explain it")
        return Explanation(texts[feature.id.index], f"file@{self._known.digest[:8]}", self.name)


def _is_rules(text: str) -> bool:
    try:
        rules.from_text(text)
    except AnswerError:
        return False
    return True


EXPLAINERS.register("file", FileExplainer)
