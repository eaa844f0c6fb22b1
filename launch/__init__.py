"""Entries, and the only place that knows Ray."""
