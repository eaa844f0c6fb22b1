"""Entries over rooms: driver, serving, judging, cluster (the only Ray), page, setup, monitoring and dev.

    entries ─▶ driver, serving ─▶ judging ─▶ cluster ─▶ setup, monitoring          judging, driver ─▶ page ─▶ monitoring

An entry (`run`, `cold_start`, `evaluate`, `status`, `scale`, `report`) parses its arguments, calls a room and returns an exit
status (`cli`). No entry imports an entry. import-linter checks the arrows (pyproject.toml).
"""

import os

from launch.setup.environment import forget_blank_variables, print_in_any_encoding

# Here, because every entry, script and worker process imports this package before it prints or reads anything.
forget_blank_variables(os.environ)
print_in_any_encoding()
