"""What may be turned: a strict typed schema, the loader and the shipped presets. Imports nothing of ours, nothing heavy."""
