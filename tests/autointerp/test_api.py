"""What `import autointerp` offers: the example in each name's docstring is true."""

import doctest
import shutil
from pathlib import Path

import pytest

import autointerp
from autointerp.api import _changed
from sae.common.progress import Silent

SLOW = ("calibrate", "estimate", "study")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in autointerp.__all__])
def test_the_example_of_each_name_is_true(
    name: str, smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(smoke, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    names = {"autointerp": autointerp, "Silent": Silent}
    result = doctest.DocTestFinder(recurse=False).find(getattr(autointerp, name), name, globs=names)
    assert [bool(test.examples) for test in result] == [True]
    assert doctest.DocTestRunner().run(result[0]).failed == 0


def test_a_config_is_given_by_its_path_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 3")
    assert _changed(tmp_path / "mine.yaml", {"sampling.features": 2}, None).seed == 3
