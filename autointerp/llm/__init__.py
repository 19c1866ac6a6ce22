"""Turns requests into completions: from the cache, a live API, a provider's batch or a model in this process.

No other package imports anthropic or openai, or reads keys.
"""
