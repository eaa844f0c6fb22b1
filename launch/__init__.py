"""Entries over rooms: driver, judging, cluster (the only Ray), page, setup, monitoring and dev."""
