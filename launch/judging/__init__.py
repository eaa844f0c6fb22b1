"""Judges and what they are asked: our engines or a served model, held-out evaluation, k votes, meta scores, results."""
