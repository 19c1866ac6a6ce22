"""Writes a run's detection scores as results of SAEBench's evaluation `autointerp`.

The schema is sae_bench/evals/autointerp/eval_output_schema_autointerp.json of adamkarvonen/SAEBench at commit 8042bb3
(1 May 2026); what the fields hold is as in main.py beside it. SAEBench's score of a feature is the share of texts of
which the judge says rightly whether the feature is active; here it is computed from the run's judgements of the texts
that `detection` shows, active and silent ones.
"""

from __future__ import annotations

import json
import statistics
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.exports import EXPORTS, Export
from autointerp.exports.content import Content, counted, layer_of
from autointerp.records import DictionarySummary, FeatureRecord, FeatureResult, without_hook_point
from sae.common.errors import UserError

DETECTION = "detection"
SAE_ID = "custom_sae"
"""What SAEBench calls the id of a dictionary that is not SAELens's (general_utils.load_and_format_sae)."""


class SAEBench(Export):
    """Writes a file per dictionary: PATH/autointerp/NAME_custom_sae_eval_results.json, as SAEBench's plots look for it.

    Settings of SAEBench's evaluation that the run has no counterpart of are left out of eval_config.
    """

    about = "results of SAEBench's autointerp evaluation from the run's detection scores, a file per dictionary"
    is_folder = True

    def write(self, content: Content, path: Path) -> Sequence[str]:
        """Write every dictionary's results by the first explainer; return how many features have none.

        Raises UserError if the run did not score by detection.
        """
        if DETECTION not in content.about["config"]["scorers"]:
            raise UserError(
                "SAEBench's score is detection, which the run did not compute; run again with --scorers detection"
            )
        (path / "autointerp").mkdir()
        unscored = 0
        for dictionary in content.dictionaries:
            features = content.features_of(dictionary)
            details = {feature.id.index: _scored(feature, content) for feature in features}
            scored = {index: one for index, one in details.items() if one is not None}
            unscored += len(features) - len(scored)
            if len(scored) < 2:
                raise UserError(f"{dictionary.name} has {len(scored)} features with a detection score; SAEBench's "
                                "deviation needs two; choose others with --dictionary NAME")  # fmt: skip
            name = f"{dictionary.name}_{SAE_ID}_eval_results.json".replace("/", "_")
            text = json.dumps(_output(content, dictionary, scored), indent=2, allow_nan=False)
            (path / "autointerp" / name).write_text(text, "utf-8")
        others = content.explainers[1:]
        more = [f"only {content.explainers[0]} is written: {', '.join(others)} left out"] if others else []
        return [*counted(unscored, "features are left out", "they have no detection score"), *more]


def _scored(feature: FeatureRecord, content: Content) -> dict[str, Any] | None:
    """Return a feature's explanation, predictions and score, texts counted from 1; None without a full answer."""
    from autointerp.scorers.fragments import labelled

    result = next((r for r in content.results.get(feature.id, ()) if r.explainer == content.explainers[0]), None)
    texts = labelled(feature.score)
    shown = sorted((*texts.active, *texts.silent))
    answers = _answers(result)
    if result is None or result.explanation is None or not shown or not all(index in answers for index in shown):
        return None
    numbers = {index: number for number, index in enumerate(shown, start=1)}
    right = [answers[index] == (index in texts.active) for index in shown]
    return {
        "latent": feature.id.index,
        "explanation": result.explanation.text,
        "predictions": [numbers[index] for index in shown if answers[index]],
        "correct seqs": [numbers[index] for index in shown if index in texts.active],
        "score": sum(right) / len(right),
    }


def _answers(result: FeatureResult | None) -> Mapping[int, bool]:
    items = result.judgements.get(DETECTION, ()) if result else ()
    return {item.record: bool(item.answer) for item in items}


def _output(content: Content, dictionary: DictionarySummary, scored: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    scores = [one["score"] for one in scored.values()]
    written = (content.folder.path / "results.jsonl").stat().st_mtime_ns // 10**6
    about = content.about
    return {
        "eval_type_id": "autointerp",
        "eval_config": _config(about["config"], len(scored)),
        "eval_id": str(uuid.UUID(about["identity"][:32])),
        "datetime_epoch_millis": written,
        "eval_result_metrics": {
            "autointerp": {
                "autointerp_score": statistics.mean(scores),
                "autointerp_std_dev": statistics.stdev(scores),
            }
        },
        "eval_result_details": [],
        "sae_bench_commit_hash": f"none: by autointerp {about['versions']['autointerp']}",
        "sae_lens_id": SAE_ID,
        "sae_lens_release_id": dictionary.name,
        "sae_lens_version": None,
        "sae_cfg_dict": _dictionary_config(content, dictionary),
        "eval_result_unstructured": {str(index): one for index, one in scored.items()},
    }


def _config(config: Mapping[str, Any], n_scored: int) -> dict[str, Any]:
    """Return the settings that both have."""
    explain, score = config["sampling"]["explain"], config["sampling"]["score"]
    return {
        "model_name": config["subject"]["model"],
        "n_latents": n_scored,
        "override_latents": None,
        "random_seed": config["seed"],
        "dataset_name": config["corpus"]["source"],
        "llm_context_size": config["corpus"]["context"],
        "scoring": True,
        "max_tokens_in_explanation": config["explanation"]["max_tokens"],
        "n_top_ex_for_generation": explain["top"],
        "n_iw_sampled_ex_for_generation": explain["importance"],
        "n_top_ex_for_scoring": score["top"],
        "n_iw_sampled_ex_for_scoring": score["importance"],
    }


def _dictionary_config(content: Content, dictionary: DictionarySummary) -> dict[str, Any]:
    """Return what the run knows of a dictionary; its architecture only where the config names it, else its kind."""
    recipes = {one["name"]: one["architecture"] for one in content.about["config"]["dictionaries"]["train"]}
    return {
        "architecture": recipes.get(without_hook_point(dictionary.name), dictionary.kind),
        "d_in": dictionary.d_in,
        "d_sae": dictionary.n_features,
        "model_name": content.model,
        "hook_name": dictionary.hook_point,
        "hook_layer": layer_of(dictionary),
    }


EXPORTS.register("saebench", SAEBench)
