"""Runs passes in this process: the whole text is one shard, and nothing has to be merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.sampling.follow import Followed, Pass
    from autointerp.sampling.shards import SampledText
    from sae.common.progress import Report


class LocalEngine:
    """Reads the text with the prepared model and dictionaries."""

    def follow(self, text: SampledText, one: Pass, config: Config, report: Report) -> dict[int, Followed]:
        """Return what the text says of the dictionaries that a pass follows, by their index."""
        from autointerp.sampling.follow import Reader

        reader = Reader(text.prepared.subject, [measured.dictionary for measured in text.prepared.dictionaries], config)
        n_tokens = text.prepared.text.ids_NC.size
        with report(f"sampling {len(one.features)} dictionaries (tokens)") as progress:
            return reader.read(text.shard(0, text.n_blocks), one, lambda done: progress.update(done, n_tokens))
