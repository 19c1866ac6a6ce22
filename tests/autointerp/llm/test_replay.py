"""What models were asked is read back from the cache of answers, without a key and without a call."""

from pathlib import Path

import pytest

from autointerp.runs.replay import asked
from autointerp.store import RunFolder
from tests.autointerp.llm.conftest import EXPLAINER, Finished


def test_every_question_of_a_run_is_read_back(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in finished.addresses.items():
        monkeypatch.setenv(variable, value)
    folder = RunFolder(finished.session.folder / "one")
    features, results = folder.read_features(), list(folder.results())
    found = asked(folder, features, results, finished.session.folder / "cache")
    assert set(found) == {(result.feature, EXPLAINER) for result in results}
    for result in results:
        exchanges = found[result.feature, EXPLAINER]
        stages = [each.stage for each in exchanges]
        assert stages[0] == "explain"
        assert "simulate" in stages
        assert "detection" in stages or not result.judgements  # nothing is asked of a feature without silent texts
        assert result.explanation
        assert exchanges[0].answer.strip().endswith(result.explanation.text)
        judged = [each for each in exchanges if each.stage == "detection"]
        assert all(result.explanation.text in each.question for each in judged)
    by_feature = {result.feature: result.judgements.get("detection", ()) for result in results}
    for feature, answers in by_feature.items():
        texts = [each.answer for each in found[feature, EXPLAINER] if each.stage == "detection"]
        assert sum(text.count("1") for text in texts) == sum(item.answer for item in answers)


def test_without_answers_there_is_nothing(finished: Finished, tmp_path: Path) -> None:
    folder = RunFolder(finished.session.folder / "one")
    found = asked(folder, folder.read_features(), list(folder.results()), tmp_path)
    assert set(map(tuple, found.values())) == {()}
