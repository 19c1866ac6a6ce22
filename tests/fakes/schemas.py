"""Which JSON schemas the APIs refuse for structured output.

Each function gives the first fault it finds in a schema, in the words of the API, or None.
"""

from collections.abc import Iterator
from typing import Any

_UNSUPPORTED = {
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "string": {"minLength", "maxLength"},
    "array": {"maxItems", "uniqueItems"},
}
"""Keywords that Anthropic's API refuses, by type."""


def anthropic_fault(schema: Any) -> str | None:
    for part in _parts(schema):
        kind = part.get("type")
        if kind == "object" and part.get("additionalProperties") is not False:
            return "For 'object' type, 'additionalProperties' must be explicitly set to false"
        if refused := sorted(_UNSUPPORTED.get(kind, set()) & set(part)) if isinstance(kind, str) else []:
            return f"For '{kind}' type, properties {', '.join(refused)} are not supported"
        if kind == "array" and part.get("minItems", 0) not in (0, 1):
            return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    return None


def openai_fault(schema: Any) -> str | None:
    """For schemas with `strict`; others are taken as they are."""
    for part in _parts(schema):
        if part.get("type") != "object":
            continue
        if part.get("additionalProperties") is not False:
            return "'additionalProperties' is required to be supplied and to be false."
        if set(part.get("required", ())) != set(part.get("properties", {})):
            return "'required' is required to be supplied and to be an array including every key in properties."
    return None


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and the schemas in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for keyword in ("properties", "$defs", "definitions"):
        for inner in schema.get(keyword, {}).values():
            yield from _parts(inner)
    for inner in (schema.get("items"), *schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from _parts(inner)
