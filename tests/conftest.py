"""Deterministic property tests: the same examples each time, and no time limit on a busy machine."""

import hypothesis

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")
