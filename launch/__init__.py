"""Entries over rooms: driver, judging, cluster (the only Ray), page, setup, monitoring and dev.

    entries ─▶ driver ─▶ judging ─▶ cluster ─▶ setup, monitoring          judging, driver ─▶ page ─▶ monitoring

An entry (`run`, `cold_start`, `evaluate`, `status`, `scale`, `report`) parses its arguments, calls a room and returns an exit
status (`cli`). No entry imports an entry. import-linter checks the arrows (pyproject.toml).
"""
