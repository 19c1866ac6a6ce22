"""Keeps the libraries that load models from printing, and leaves the process as it was."""

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide progress bars, warnings and notices of transformers, huggingface_hub and TransformerLens inside the block.

    What they were set to before is set again afterwards.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    hub_hidden, bars_shown = are_progress_bars_disabled(), transformers_logging.is_progress_bar_enabled()
    level, verbosity = logging.root.manager.disable, transformers_logging.get_verbosity()
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        transformers_logging.set_verbosity(verbosity)
        if bars_shown:
            transformers_logging.enable_progress_bar()
        if not hub_hidden:
            enable_progress_bars()
