"""Entries (run, cold_start, evaluate, status, scale, report) over rooms: driver, judging, cluster, page, setup, monitoring, dev."""
