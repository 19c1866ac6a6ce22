"""Writes a run, or several, as static pages: a leaderboard, the features, and what was run.

The pages open from the file system and load nothing from the network. Data lie beside them as scripts in chunks, which
the pages load when they need them; everything from a corpus or a language model is text there, never HTML.
"""
