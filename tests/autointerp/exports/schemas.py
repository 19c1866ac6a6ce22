"""Other tools' schemas as models that accept nothing more than they do; where each stands is said beside it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Lower = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^A-Z]+$")]
Required = Annotated[str, StringConstraints(min_length=1)]
"""yup's `string().required()` refuses the empty string."""


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Logit(Schema):
    token: Required
    value: float


class UploadedExplanation(Schema):
    text: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    methodName: Lower | None = None
    modelName: Lower | None = None


class UploadedActivation(Schema):
    tokens: Annotated[list[Required], Field(min_length=1, max_length=1024)]
    values: Annotated[list[float], Field(min_length=1, max_length=1024)]
    quantileMax: Annotated[float, Field(le=99999999)] | None = None
    quantileMin: Annotated[float, Field(le=99999999)] | None = None
    quantileFraction: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _as_many(self) -> "UploadedActivation":
        assert len(self.tokens) == len(self.values)
        return self


class UploadedFeature(Schema):
    index: Annotated[int, Field(ge=0, le=10_000_000)]
    density: Annotated[float, Field(ge=0, le=1)] | None = None
    topLogits: Annotated[list[Logit], Field(max_length=20)] | None = None
    bottomLogits: Annotated[list[Logit], Field(max_length=20)] | None = None
    explanations: list[UploadedExplanation] = []
    activations: Annotated[list[UploadedActivation], Field(min_length=1)]


class Upload(Schema):
    """uploadBatchSchema and the checks below it, of hijohnnylin/neuronpedia at
    ebb8426fc550ad5d1f76d52c271a624af3c08a57, apps/webapp/app/api/feature/upload-batch/route.tsx.
    """

    modelId: Lower
    source: Lower
    features: Annotated[list[UploadedFeature], Field(min_length=1, max_length=128)]

    @model_validator(mode="after")
    def _once(self) -> "Upload":
        assert len({feature.index for feature in self.features}) == len(self.features)
        return self


class Example(Schema):
    tokens_acts_list: list[float]
    train_token_ind: int
    is_repeated_datapoint: bool
    tokens: list[str]


class ExamplesQuantile(Schema):
    quantile_name: str
    examples: list[Example]


class TracedFeature(Schema):
    """Model of decoderesearch/circuit-tracer at 4bb8c0ea10bde09727e14565ec8469656880da53,
    circuit_tracer/frontend/feature_models.py.
    """

    transcoder_id: str
    index: int
    examples_quantiles: list[ExamplesQuantile]
    top_logits: list[str]
    bottom_logits: list[str]
    act_min: float
    act_max: float
    quantile_values: list[float]
    histogram: list[float]
    activation_frequency: float


class EvalConfig(Schema):
    model_name: str = ""
    n_latents: int | None = 1000
    override_latents: list[int] | None = None
    dead_latent_threshold: float = 15
    random_seed: int = 42
    dataset_name: str = "monology/pile-uncopyrighted"
    llm_context_size: int = 128
    llm_batch_size: int = 0
    llm_dtype: str = ""
    buffer: int = 10
    no_overlap: bool = True
    act_threshold_frac: float = 0.01
    total_tokens: int = 2_000_000
    scoring: bool = True
    max_tokens_in_explanation: int = 30
    use_demos_in_explanation: bool = True
    n_top_ex_for_generation: int = 10
    n_iw_sampled_ex_for_generation: int = 5
    n_top_ex_for_scoring: int = 2
    n_random_ex_for_scoring: int = 10
    n_iw_sampled_ex_for_scoring: int = 2

    @model_validator(mode="after")
    def _latents(self) -> "EvalConfig":
        """AutoInterpEvalConfig.__post_init__ of eval_config.py."""
        assert (self.n_latents is None) is (self.override_latents is not None)
        return self


class Metrics(Schema):
    autointerp_score: float
    autointerp_std_dev: float


class MetricCategories(Schema):
    autointerp: Metrics


class EvalOutput(Schema):
    """AutoInterp of adamkarvonen/SAEBench at 8042bb3828c6340da8d12062324e92b2077c571c,
    sae_bench/evals/autointerp/eval_output_schema_autointerp.json, with the checks of base_eval_output.py.
    """

    eval_type_id: str = "autointerp"
    eval_config: EvalConfig
    eval_id: str
    datetime_epoch_millis: Annotated[int, Field(ge=0, le=9999999999999)]
    eval_result_metrics: MetricCategories
    eval_result_details: list[dict[str, Any]] | None = None
    sae_bench_commit_hash: str
    sae_lens_id: str | None
    sae_lens_release_id: str | None
    sae_lens_version: str | None
    sae_cfg_dict: dict[str, Any] | None
    eval_result_unstructured: Any | None = None
