"""Serves pages of a run to this machine's browser: on loopback only, behind a random token.

`server` refuses what is not ours; `pages` serves the static pages and scores edited explanations; `rating` asks a
person to rate features.
"""
