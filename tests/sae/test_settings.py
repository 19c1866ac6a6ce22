"""Settings: read from YAML, changed field by field; a mistake is one line that names the path and what is near."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, model_validator

from sae.common.errors import UserError
from sae.common.settings import Section, build, leaf_names, parse_settings, read


class Loss(Section):
    warmup: int = 0
    """Steps until it counts in full."""
    power: float = 1


class TopK(Section):
    architecture: Literal["topk"]
    k: int = 16
    activation: Literal["relu", "none"] = "relu"


class Relu(Section):
    architecture: Literal["relu", "standard"]
    sparsity: float = 0.1
    loss: Loss = Loss()


class Alone(Section):
    expansion: float

    @model_validator(mode="after")
    def _whole(self) -> "Alone":
        if self.expansion < 1:
            raise ValueError("a K in upper case, SAE")
        return self


Recipe = Annotated[TopK | Relu, Field(discriminator="architecture")]


class Plan(Section):
    name: str = "plan"
    dictionaries: tuple[Recipe, ...] = ()
    listed: tuple[TopK | Relu, ...] = ()
    main: TopK | Relu | None = Field(default=None, discriminator="architecture")
    alone: Alone | None = None
    loss: Loss = Loss()
    sizes: tuple[int, ...] = ()


TWO: dict[str, Any] = {"dictionaries": [{"architecture": "topk"}, {"architecture": "relu"}], "sizes": [1, 2]}


def test_a_section_is_fixed_and_documented() -> None:
    assert Loss.model_fields["warmup"].description == "Steps until it counts in full."
    with pytest.raises(ValueError, match="frozen"):
        Loss().warmup = 3  # type: ignore[misc]


def test_items_of_lists_are_changed_by_number_and_nothing_else_is() -> None:
    changes = {"dictionaries.0.k": 3, "dictionaries.1.loss.warmup": 5, "sizes.1": 7, "loss.power": 2}
    plan = build(Plan, TWO, changes, "here")
    assert plan.dictionaries == (
        TopK(architecture="topk", k=3), Relu(architecture="relu", loss=Loss(warmup=5)),
    )  # fmt: skip
    assert (plan.sizes, plan.loss) == ((1, 7), Loss(power=2))
    assert TWO["dictionaries"] == [{"architecture": "topk"}, {"architecture": "relu"}]
    assert build(Plan, plan.model_dump(), {"dictionaries.0.k": 4}, "here").dictionaries[1] == plan.dictionaries[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dictionary": []}, "here: unknown key 'dictionary'; did you mean dictionaries"),
        ({"los": {}}, "unknown key 'los'; did you mean loss?"),
        ({"loss.warmpu": 3}, "unknown key 'loss.warmpu'; did you mean loss.warmup"),
        ({"dictionaries.0.architecture": "topkk"}, "dictionaries.0.architecture: unknown 'topkk'; did you mean topk?"),
        ({"dictionaries.0.architecture": "x"}, "architecture: unknown 'x'; known: topk, relu, standard"),
        ({"dictionaries.0.architecture": 3}, "architecture: unknown '3'; known: topk, relu, standard"),
        ({"dictionaries.0": {}}, "dictionaries.0.architecture: field required; known: topk, relu, standard"),
        ({"dictionaries.0": "topk"}, "dictionaries.0: write settings, each as NAME: VALUE"),
        ({"dictionaries.0.kk": 3}, "unknown key 'dictionaries.0.kk'; did you mean k?"),
        ({"dictionaries.0.sparsity": 3}, "unknown key 'dictionaries.0.sparsity'; known: architecture, k, activation"),
        ({"dictionaries.1.sparsty": 3}, "unknown key 'dictionaries.1.sparsty'; did you mean sparsity?"),
        ({"dictionaries.1.loss.warmpu": 3}, "'dictionaries.1.loss.warmpu'; did you mean loss.warmup"),
        ({"dictionaries.1.sparsity": "x"}, "dictionaries.1.sparsity: input should be a valid number, .* (got 'x')"),
        ({"dictionaries.2.k": 3}, "here: dictionaries is a list of 2, counted from 0: it has no item '2'"),
        ({"dictionaries.k": 3}, "dictionaries is a list of 2, counted from 0: it has no item 'k'"),
        ({"dictionaries.-1.k": 3}, "it has no item '-1'"),
        ({"listed.0.k": 3}, "listed is not given here, so it has no item '0'; set all of it: listed=[...]"),
        ({"listed": [{"architecture": "topk", "kk": 3}]}, "unknown key 'listed.0.kk'"),
        ({"sizes.0.k": 3}, "sizes.0 is 1 here, which holds no settings; 'k' cannot be set in it"),
        ({"main": {"architecture": "tpk"}}, "main.architecture: unknown 'tpk'; did you mean topk?"),
        ({"main": {"architecture": "topk", "kk": 3}}, "unknown key 'main.kk'; did you mean k?"),
        ({"alone": {}}, "alone.expansion is required"),
        ({"alone.expansion": 0.5}, "here: alone: a K in upper case, SAE"),
        ({"name": ["x" * 999]}, r"name: input should be a valid string (got ['xxxxx"),
    ],
)
def test_a_mistake_is_one_short_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(Plan, TWO, changes, "here")
    parts = message.split(" .* ")
    assert all(part in str(caught.value) for part in parts), caught.value
    assert str(caught.value).startswith("here: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_names_of_a_model_with_choices() -> None:
    class Small(BaseModel):
        recipes: list[Recipe] = []
        seed: int = 0

    inner = ("architecture", "k", "activation", "sparsity", "loss.warmup", "loss.power")
    assert leaf_names(Small) == [*(f"recipes.{name}" for name in inner), "seed"]


def test_settings_from_strings() -> None:
    read_settings = parse_settings(["a.b=3", "c=[x, y]", "d=true", "e.0={k: 1}"], "a=1")
    assert read_settings == {"a.b": 3, "c": ["x", "y"], "d": True, "e.0": {"k": 1}}
    with pytest.raises(UserError, match=r"--set a\.b: write it as name=value, for example c\.d=1"):
        parse_settings(["a.b"], "c.d=1")
    with pytest.raises(UserError, match="the value is not YAML"):
        parse_settings(["a.b=["], "a=1")


@pytest.mark.parametrize(("text", "message"), [("a: [", "is not YAML"), ("- 1", "does not hold a mapping")])
def test_a_file_that_is_no_config(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read(str(tmp_path / "bad.yaml"))
    assert "\n" not in str(caught.value)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# later\n")
    assert read(str(tmp_path / "empty.yaml")) == (tmp_path / "empty.yaml", {})
