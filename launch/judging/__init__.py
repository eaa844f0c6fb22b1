"""Judges and what is asked of them: held-out evaluation, k votes, our engines or a model that is served elsewhere."""
