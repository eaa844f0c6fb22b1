"""A served judge."""

from tests.launch.judging.fake_server import judge_server

__all__ = ["judge_server"]  # a fixture of all tests here
