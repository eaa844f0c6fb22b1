"""What may be turned: the strict typed schema, the loader and the shipped presets.

Imports nothing of ours and nothing heavy.
"""
