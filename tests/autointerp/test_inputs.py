"""What a run takes from its dictionaries: they agree, or the run is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from autointerp import config
from autointerp.sampling import inputs
from sae import formats
from sae.common.errors import UserError
from sae.dictionary import Dictionary

UNSAID: dict[str, Any] = {}
NONE: dict[str, Any] = {"processing": {}}
CENTRED: dict[str, Any] = {"processing": {"center_writing_weights": True}}


def configured(folder: Path, *told: dict[str, Any]) -> config.Config:
    """With dictionaries whose metadata are these."""
    for i, metadata in enumerate(told):
        eye = torch.eye(3)
        formats.save(Dictionary(f"d{i}", "sae", eye, eye[0], eye, eye[0], metadata=metadata), folder / f"d{i}")
    paths = [str(folder / f"d{i}") for i in range(len(told))]
    return config.load("smoke", {"dictionaries.load": paths})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((), {}),
        ((UNSAID,), {}),
        ((NONE, UNSAID), {}),
        ((CENTRED,), CENTRED["processing"]),
        ((UNSAID, CENTRED, CENTRED), CENTRED["processing"]),
    ],
    ids=str,
)
def test_the_processing_is_the_one_that_is_said(
    told: tuple[dict[str, Any], ...], expected: dict[str, Any], tmp_path: Path
) -> None:
    assert inputs.processing(configured(tmp_path, *told)) == expected


@pytest.mark.parametrize("told", [(NONE, CENTRED), (CENTRED, UNSAID, NONE)], ids=str)
def test_dictionaries_of_models_processed_differently_are_not_mixed(
    told: tuple[dict[str, Any], ...], tmp_path: Path
) -> None:
    """That a model was left as it is, is said too."""
    with pytest.raises(UserError, match=r"disagree on processing \(.*d0.*\); run them apart") as caught:
        inputs.processing(configured(tmp_path, *told))
    assert "\n" not in str(caught.value)
