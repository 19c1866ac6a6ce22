"""Learns, loads and measures dictionaries of a language model's activations; knows nothing about explanations.

Import what you need from its modules (`from sae.dictionary import Dictionary`): the package itself imports nothing,
so that torch is loaded only by code that uses it.
"""
