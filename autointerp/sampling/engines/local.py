"""Runs passes in this process: the text is one shard, or what an earlier process has left of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.sampling.engines.kept import KeptPass, KeptPasses, SoFar
    from autointerp.sampling.follow import Done, Followed, Pass
    from autointerp.sampling.shards import SampledText
    from sae.common.progress import Report


class LocalEngine:
    """Reads the text with the prepared model and dictionaries."""

    def __init__(self, kept: KeptPasses | None = None) -> None:
        """Take where passes are kept, so that one that was stopped continues; None: nowhere."""
        self._kept = kept

    def follow(self, text: SampledText, one: Pass, config: Config, report: Report) -> dict[int, Followed]:
        """Return what the text says of the dictionaries that a pass follows, by their index."""
        from autointerp.sampling.engines.kept import SoFar
        from autointerp.sampling.follow import Reader

        reader = Reader(text.prepared.subject, [measured.dictionary for measured in text.prepared.dictionaries], config)
        n_blocks, context = text.prepared.text.ids_NC.shape
        kept = self._kept.of(text, one, config) if self._kept else None
        so_far = kept.load() if kept else SoFar()
        with report(f"sampling {len(one.features)} dictionaries (tokens)") as progress:
            so_far.tell(progress, n_blocks)
            for start, end in so_far.missing(n_blocks):

                def update(n_read: int, before: int = so_far.n_blocks) -> None:
                    progress.update((before + n_read) * context, n_blocks * context)

                followed = reader.read(text.shard(start, end), one, _after_batch(so_far, start, kept, update))
                so_far = so_far.with_part((start, end), followed)
        return dict(so_far.followed or {})


def _after_batch(before: SoFar, start: int, kept: KeptPass | None, update: Callable[[int], None]) -> Done:
    """Return what is done after each batch of a part of the text: the progress is shown, and the pass kept."""

    def done(n_read: int, now: Callable[[], dict[int, Followed]]) -> None:
        update(n_read)
        if kept:
            kept.keep(lambda: before.with_part((start, start + n_read), now()))

    return done
