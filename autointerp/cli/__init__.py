"""Defines the command line: parses, calls the function of the same name, prints. Imports nothing heavy at the top."""

import click

from autointerp.cli.answers import cache
from autointerp.cli.calibrating import calibrate
from autointerp.cli.configs import check, show_settings
from autointerp.cli.experiment import run
from autointerp.cli.exporting import export
from autointerp.cli.multiverse import sensitivity
from autointerp.cli.planning import plan
from autointerp.cli.rating import rate
from autointerp.cli.results import browse, leaderboard, list_runs, show
from autointerp.cli.studying import study
from autointerp.cli.trying import try_text
from autointerp.cli.verifying import verify
from sae.common.click_group import Commands


@click.group(
    "autointerp", cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="autointerp")
def main() -> None:
    """Measure how interpretable the features of a language model's dictionary are.

    \b
    autointerp run                          the demo: trains a toy model and a sparse dictionary, compares baselines
    autointerp run --dictionary PATH        your own dictionary (in any known format)
    autointerp list                         the runs here with their state and scores
    autointerp show RUN [FEATURE]           a feature with its fragments, explanation and predictions
    autointerp leaderboard RUN ...          several runs in one table
    autointerp browse RUN ...               runs as pages: leaderboard, features with their excerpts
    autointerp try RUN --text "..."         the features that are active on your own text
    autointerp verify RUN                   whether every figure of a run follows from its records and answers
    autointerp export RUN --format NAME     a run in the formats of other tools
    autointerp rate RUN                     rate features yourself, without knowing their dictionaries
    autointerp sensitivity [RUN]            what the ranking depends on: protocol, records, length, failures
    autointerp study [NAME ...]             published experiments: ablations, logit weights, universality ...
    autointerp calibrate                    what each score says of features whose truth is known
    autointerp check [CONFIG]               whether the language models answer, and what they can do
    autointerp plan [CONFIG] --tokens 1e9   what a run at scale would take: time, memory, cost
    autointerp config [SECTION]             every setting with its meaning and default
    autointerp cache info                   the stored answers of language models
    """


COMMANDS = (
    run, check, plan, show_settings, list_runs, show, leaderboard, browse, try_text, verify, export, rate,
    sensitivity, study, calibrate, cache,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
