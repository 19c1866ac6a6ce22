"""Writes sae/hub/saelens.json, our dated copy of what SAELens' registry of pretrained dictionaries says.

    pip download sae-lens --no-deps
    python tests/benchmarks/saelens_registry.py sae_lens-6.54.12-py3-none-any.whl 2026-11-22

Hook points and widths are not in the registry: they are derived from its names as SAELens' own loaders
(`loading/pretrained_sae_loaders.py`, MIT licence) derive them, and left out where the names do not say.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import yaml

OUT = Path(__file__).parents[2] / "sae" / "hub" / "saelens.json"
THOUSANDS = {65: 65_536, 131: 131_072, 262: 262_144, 524: 524_288}
"""What names round down; other names count in 1,024."""
WIDTHS = (r"width_(\d+)k", r"-w(\d+)k-", r"-(\d+)k(?:__|$)", r"_(\d+)k-oai")
LLAMA_SCOPE = {"r": "hook_resid_post", "a": "hook_attn_out", "m": "hook_mlp_out"}
GEMMA = {"res": "hook_resid_post", "att": "attn.hook_z", "mlp": "hook_mlp_out"}
FEATURE_INPUT = {
    "gemma_2_transcoder": "ln2.hook_normalized", "mwhanna_transcoder": "mlp.hook_in",
    "mntss_clt_layer_transcoder": "hook_mlp_in",
}  # fmt: skip


def layer_of(sae: dict[str, Any]) -> int | None:
    match = re.search(r"(?:blocks\.|layer_?|^l)(\d+)", sae["id"])
    return int(match[1]) if match else None


def kind_of(release: str, about: dict[str, Any], sae: dict[str, Any]) -> str | None:
    """The hook point's name without its layer."""
    named, loader = re.match(r"blocks\.\d+\.([a-z_.]+?)(?:_\d+|__.*)?$", sae["id"]), about.get("conversion_func")
    if loader == "connor_rob_hook_z":
        return "attn.hook_z"
    if named:
        return named[1]
    if loader == "gemma_3":
        return "hook_mlp_in" if "transcoder" in sae["path"] else GEMMA[re.search("res|att|mlp", sae["path"])[0]]  # type: ignore[index]
    if loader == "gemma_2":
        return GEMMA[about["repo_id"].split("-")[-1]]
    if loader and loader.startswith("llama_scope"):
        return LLAMA_SCOPE[re.match(r"l\d+([ram])_", sae["id"])[1]]  # type: ignore[index]
    return FEATURE_INPUT.get(str(loader), "hook_resid_post" if loader or "resid_post" in sae["id"] else None)


def hook_of(release: str, about: dict[str, Any], sae: dict[str, Any]) -> str | None:
    if sae["id"].startswith("embedding/"):
        return "hook_embed"
    layer, kind = layer_of(sae), kind_of(release, about, sae)
    return None if layer is None or kind is None else f"blocks.{layer}.{kind}"


def width_of(release: str, about: dict[str, Any], sae: dict[str, Any]) -> int | None:
    power = re.search(r"2pow(\d+)", release)
    if power:
        return int(2 ** int(power[1]))
    if "width_1m" in sae["path"]:
        return 2**20
    exact = re.search(r"_(\d{3,})$", sae["path"])
    if exact and about.get("conversion_func") is None:
        return int(exact[1])
    for name in (sae["id"], sae["path"], release, str(sae.get("neuronpedia"))):
        for pattern in WIDTHS:
            if match := re.search(pattern, name):
                return THOUSANDS.get(int(match[1]), int(match[1]) * 1024)
    return None


def row(release: str, about: dict[str, Any], sae: dict[str, Any]) -> list[Any]:
    sae = sae | {"path": f"W_enc_{sae['path']}.safetensors" if isinstance(sae["path"], int) else sae["path"]}
    l0 = sae.get("l0")
    hook, width = hook_of(release, about, sae), width_of(release, about, sae)
    return [sae["id"], sae["path"], hook, width, int(l0) if l0 and l0 == int(l0) else l0]


def entry(release: str, about: dict[str, Any]) -> dict[str, Any]:
    """One release; what all its rows share is said once, and `sae/hub/saelens.py` puts it together again."""
    nested = [one for sae in about["saes"] for one in sae.get("saes", [sae])]
    rows = [row(release, about, one) for one in {one["id"]: one for one in nested}.values()]
    normalisation = (about.get("config_overrides") or {}).get("normalize_activations")
    folders = {path.removesuffix(name) if path.endswith(name) else None for name, path, *_ in rows}
    folder = folders.pop() if len(folders) == 1 else None
    kind = Counter(re.sub(r"^blocks\.\d+\.", "blocks.{}.", str(each[2])) for each in rows).most_common(1)[0][0]
    for each in rows:
        each[1] = None if folder is not None or each[1] == each[0] else each[1]
        layer = re.match(r"blocks\.(\d+)\.", str(each[2]))
        each[2] = int(layer[1]) if layer and kind.replace("{}", layer[1]) == each[2] else each[2]
    about = {"repo": about["repo_id"], "model": about["model"], "folder": folder or "", "hook_point": kind}
    return about | ({"normalisation": normalisation} if normalisation else {}) | {"saes": rows}


def main(wheel: str, date: str) -> None:
    with ZipFile(wheel) as archive:
        known = yaml.load(archive.read("sae_lens/pretrained_saes.yaml"), Loader=yaml.CSafeLoader)
    source = f"sae_lens/pretrained_saes.yaml of {Path(wheel).name}, MIT licence, taken on {date}"
    lines = [
        f'{{"source": {json.dumps(source)},',
        '"columns": ["id", "path", "hook_point", "width", "l0"],',
        '"releases": {',
    ]
    for release, about in known.items():
        text = json.dumps(entry(release, about), separators=(",", ":")).replace(",[", ",\n[")
        lines.append(f"{json.dumps(release)}: {text}{'' if release == list(known)[-1] else ','}")
    OUT.write_text("\n".join([*lines, "}}", ""]), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
