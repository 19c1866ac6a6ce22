"""Prompts of a cloned folder: they run no code, and what cannot be filled in is one line."""

from pathlib import Path

import pytest

from autointerp.prompting import templates
from autointerp.prompting.templates import Prompt
from tests.inputs.harness import refuses

ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ x.__class__ }}",
    "{{ x.__init__.__globals__ }}",
    "{{ [].__class__.__base__.__subclasses__()[0] }}",
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__.os.system('id') }}",
    "{{ namespace.__init__.__globals__.os.system('id') }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ lipsum.__globals__.os.system('touch escaped') }}",
    "{{ lipsum|attr('__globals__') }}",
    "{{ lipsum|attr('__glo' ~ 'bals__') }}",
    "{{ lipsum['__glo' + 'bals__'] }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '{0.__class__.__init__.__globals__}'|format(x) ~ ''.format.__class__ }}",
    "{{ '{x.__class__}'.format_map({'x': x}) }}",
    "{{ ('{0.__cl' ~ 'ass__}').format(x) }}",
    "{% for c in ().__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "{% set f = x.upper.__func__ %}{{ f }}",
    "{{ values.append(3) }}",
    "{{ values.clear() }}",
    "{{ mapping.update({'a': 1}) }}",
    "{{ mapping.pop('a') }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends 'x' %}",
    "{{ range(10**9)|list }}",
    "{{ 'x' * 10**10 }}",
    "{{ 10**10**10 }}",
    "{{ [0] * 10**10 }}",
    "{{ '%1000000000000s' % 'x' }}",
    "{{ 'x'.ljust(10**12) }}",
    "{{ 'x'|center(10**12) }}",
    "{{ '{:>1000000000000}'.format('x') }}",
)
"""Ways out of a template, or to all memory."""


@pytest.mark.parametrize("template", ESCAPES)
def test_no_template_leads_out(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values, mapping = [1, 2], {"a": 0}
    prompt = Prompt("mine", "", {"user": template})
    refuses(lambda: prompt.render("user", x="text", values=values, mapping=mapping), "mine")
    assert (values, mapping) == ([1, 2], {"a": 0})
    assert not list(tmp_path.iterdir())


WRONG = (
    "{{ absent }}", "{{ x.absent }}", "{{ x[99] }}", "{{ 1 / 0 }}", "{{ x + 1 }}", "{{ x() }}",
    "{{ x|absent }}", "{{ x",
    "{% if %}", "{% for %}", "{{ values['a'] }}", "{{ '%d' % x }}", "{% endfor %}",
    "{{ x|round }}", "{{ " + "(" * 2000 + " }}", "{{ 9" + "9" * 5000 + " }}", "{{ x|sum }}", "{{ x is absent }}",
    "{{ '{absent}'.format(x) }}", "{{ x|join(3) }}{{ 3|join }}",
)  # fmt: skip


@pytest.mark.parametrize("template", WRONG)
def test_a_template_that_cannot_be_filled_in(template: str) -> None:
    refuses(lambda: Prompt("mine", "", {"user": template}).render("user", x="text", values=[1]), "mine")


FILES: dict[str, bytes] = {
    "deep": b"[" * 20_000, "a list": b"- 1", "empty": b"", "not YAML": b"a: [", "not UTF-8": b"a: \xff",
    "an object": b"!!python/object/apply:os.system [id]", "a number of shots": b"few_shot: 3",
    "shots that are not there": b"few_shot: absent", "a list of shots": b"few_shot: [a]",
    "a circle": b"few_shot: &a [*a]",
    "a key twice": b"user: a\nuser: b\n", "shots of nothing": b"few_shot: ''", "no system": b"user: a\n",
    "a system of numbers": b"system: [1]\nuser: {a: 1}\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_prompt(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "mine.yaml").write_bytes(FILES[kind])
    monkeypatch.chdir(tmp_path)
    templates.load.cache_clear()
    refuses(lambda: templates.load("mine").conversation([], {"x": "text"}), "")


@pytest.mark.parametrize("name", ["absent", "", "../../etc/passwd", "x" * 5000, "a\0b", "\udcff"])
def test_a_prompt_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    templates.load.cache_clear()
    refuses(lambda: templates.load(name), "")
