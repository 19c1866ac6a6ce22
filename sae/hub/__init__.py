"""Fetches dictionaries from the Hugging Face hub by name, and finds them in SAELens' registry. Imports nothing heavy.

`address` reads `hf:OWNER/REPO[/PATH][@REVISION]` and `saelens:RELEASE/SAE_ID`; `fetch` downloads what a reader needs of
it, with huggingface-hub, into the hub's own cache; `saelens` searches the registry, which is data in this folder.
"""
