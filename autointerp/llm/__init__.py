"""The LLM room: requests become completions, from the cache, a live API, a provider's batch or a local model.

The only room that imports anthropic, openai and reads keys. Knows nothing about features or scores.
"""
