"""The training steps of SAELens, dictionary_learning and sparsify, each as its own trainer makes it.

    pip install sae-lens dictionary-learning eai-sparsify

in an environment of their own (sae-lens wants transformer-lens 3.9; dictionary-learning brings a torchvision that does
not go with a CPU torch: uninstall it). What does not import is named and left out.

Left out for all of them, ours too: where activations come from, logging, checkpoints. On a GPU they compute in bf16, as
each library offers it.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.training_methods import STEPS, Method, Shape, Step

PACKAGES = {"sae_lens": "sae-lens", "dictionary_learning": "dictionary-learning", "sparsify": "eai-sparsify"}
BEST = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
"""SAELens' fastest TopK: products with the active features only, and no decoder norms in every step."""

Make = Callable[[Tensor], Step]


def missing() -> dict[str, str]:
    """Which libraries are not there, by module, and why."""
    reasons = {}
    for module in PACKAGES:
        try:
            importlib.import_module(module)
        except (ImportError, RuntimeError, AttributeError) as error:  # a torchvision for another torch gives the latter
            reasons[module] = str(error).splitlines()[0]
    return reasons


def peers(shape: Shape, absent: dict[str, str]) -> list[Method]:
    """Steps of the libraries that are there."""
    sizes = {"activation_dim": shape.d, "dict_size": shape.features}
    lens = partial(_sae_lens, shape)
    unscaled = {"k": shape.k, "rescale_acts_by_decoder_norm": False}
    made: list[tuple[str, str, str, Make]] = [
        ("sae_lens", "SAELens standard", "relu", lens("standard")),
        ("dictionary_learning", "dictionary_learning Standard", "relu", _dictionary_learning("StandardTrainer", sizes)),
        ("sparsify", "sparsify TopK, Adam", "topk", _sparsify(shape)),
        ("sae_lens", "SAELens TopK, best settings", "topk", lens("topk", k=shape.k, **BEST)),
        ("sae_lens", "SAELens TopK, defaults", "topk", lens("topk", k=shape.k)),
        ("dictionary_learning", "dictionary_learning TopK", "topk", _sparse_trainer("TopKTrainer", shape, sizes)),
        ("sae_lens", "SAELens BatchTopK, best settings", "batch_topk", lens("batchtopk", **unscaled)),
        ("sae_lens", "SAELens BatchTopK, defaults", "batch_topk", lens("batchtopk", k=shape.k)),
        (
            "dictionary_learning",
            "dictionary_learning BatchTopK",
            "batch_topk",
            _sparse_trainer("BatchTopKTrainer", shape, sizes),
        ),
    ]
    floors = {"relu": 5 * shape.product, "topk": shape.sparse, "batch_topk": shape.sparse}
    return [
        Method(name, floors[rival], make, f"ours, {rival}")
        for module, name, rival, make in made
        if module not in absent
    ]


def stacks(shape: Shape, number: int, absent: dict[str, str]) -> list[Method]:
    """Several L1 dictionaries on the same batches: dictionary_learning's loop, SAELens' MultiSAETrainer."""
    sizes = {"activation_dim": shape.d, "dict_size": shape.features}
    made: list[tuple[str, str, Make]] = [
        ("dictionary_learning", "dictionary_learning's loop", _dictionary_learning("StandardTrainer", sizes, number)),
        ("sae_lens", "SAELens MultiSAETrainer", _several_sae_lens(shape, number)),
    ]
    flops = 5 * shape.product * number
    return [Method(name, flops, make, "ours") for module, name, make in made if module not in absent]


def _on_gpu(device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def _sae_lens(shape: Shape, architecture: str, **settings: object) -> Make:
    """`SAETrainer.step`, and the count that its `fit` keeps."""

    def make(first_BD: Tensor) -> Step:
        device = first_BD.device.type
        sae = sae_of_lens(shape.d, shape.features, architecture, device, **settings)
        trainer = training_of_lens(sae, STEPS * shape.batch, shape.batch, device)

        def step(x_BD: Tensor) -> None:
            trainer.step(x_BD)
            trainer.n_training_steps += 1

        return step

    return make


def sae_of_lens(d: int, features: int, architecture: str, device: str, **settings: object) -> Any:
    """Return an untrained autoencoder of SAELens."""
    import sae_lens  # noqa: F401  (it fills the registry)
    from sae_lens.registry import get_sae_training_class

    kind, config = get_sae_training_class(architecture)
    return kind(config(d_in=d, d_sae=features, device=device, **settings))


def training_of_lens(sae: Any, vectors: int, batch: int, device: str, **schedule: object) -> Any:
    """Return its trainer for so many vectors; what a schedule does not say is the library's default."""
    from sae_lens.training.sae_trainer import SAETrainer

    return SAETrainer(cfg=_lens_config(vectors, batch, device, schedule), sae=sae, data_provider=iter(()))


def _lens_config(vectors: int, batch: int, device: str, schedule: Mapping[str, object]) -> Any:
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    settings: dict[str, Any] = {"lr_end": 3e-5} | dict(schedule)
    return SAETrainerConfig(
        total_training_samples=vectors,
        train_batch_size_samples=batch,
        device=device,
        autocast=device == "cuda",
        logger=LoggingConfig(log_to_wandb=False),
        **settings,
    )


def _several_sae_lens(shape: Shape, number: int) -> Make:
    """What `MultiSAETrainer.fit` does with each batch."""

    def make(first_BD: Tensor) -> Step:
        from sae_lens.training.multi_sae_trainer import MultiSAETrainer

        device = first_BD.device.type
        saes = {str(index): sae_of_lens(shape.d, shape.features, "standard", device) for index in range(number)}
        several = MultiSAETrainer(
            _lens_config(STEPS * shape.batch, shape.batch, device, {}), saes, dict.fromkeys(saes, "hook"), iter(())
        )

        def step(x_BD: Tensor) -> None:
            for trainer in several.trainers.values():
                trainer.step(x_BD)
            for trainer in several.trainers.values():
                trainer.n_training_steps += 1

        return step

    return make


def _sparse_trainer(kind: str, shape: Shape, sizes: dict[str, int]) -> Make:
    return _dictionary_learning(kind, sizes | {"k": shape.k})


def _dictionary_learning(kind: str, sizes: dict[str, int], number: int = 1) -> Make:
    """`update` of its trainers, from step 1 on (step 0 looks for the geometric median), as `trainSAE` calls it."""

    def make(first_BD: Tensor) -> Step:
        module = importlib.import_module("dictionary_learning.trainers")
        about = {"steps": STEPS, "layer": 0, "lm_name": "", "device": first_BD.device.type, **sizes}
        trainers = [getattr(module, kind)(**about) for _ in range(number)]
        steps: Iterator[int] = count(1)

        def step(x_BD: Tensor) -> None:
            done = next(steps)
            for trainer in trainers:
                with _on_gpu(x_BD.device):
                    trainer.update(done, x_BD)

        return step

    return make


def _sparsify(shape: Shape) -> Make:
    """What `Trainer.fit` and its hook do with a batch, in their order: the step is no function of its own there.

    With `optimizer="adam"`, torch's (its 8-bit one needs a GPU package), and no auxiliary loss, which is the default.
    """

    def make(first_BD: Tensor) -> Step:
        from sparsify import SparseCoder, SparseCoderConfig
        from transformers import get_linear_schedule_with_warmup

        config = SparseCoderConfig(num_latents=shape.features, k=shape.k)
        sae = SparseCoder(shape.d, config, first_BD.device, dtype=torch.float32)
        sae.b_dec.data = first_BD.mean(0).float()
        adam = torch.optim.Adam(sae.parameters(), lr=2e-4 / (shape.features / 2**14) ** 0.5)
        schedule = get_linear_schedule_with_warmup(adam, 1000, STEPS)
        since_fired_F = torch.zeros(shape.features, dtype=torch.long, device=first_BD.device)
        fired_F = torch.zeros(shape.features, dtype=torch.bool, device=first_BD.device)

        def step(x_BD: Tensor) -> None:
            sae.set_decoder_norm_to_unit_norm()
            variance = (x_BD - x_BD.mean(0)).pow(2).sum()
            out = sae(x=x_BD, y=x_BD, dead_mask=None, total_variance=variance)
            fired_F[out.latent_indices.flatten()] = True
            float(out.fvu.detach())
            (out.fvu + 0.0 * out.auxk_loss + out.multi_topk_fvu / 8).backward()
            sae.remove_gradient_parallel_to_decoder_directions()
            adam.step()
            adam.zero_grad()
            schedule.step()
            since_fired_F.add_(len(x_BD))
            since_fired_F[fired_F] = 0
            fired_F.zero_()

        return step

    return make
