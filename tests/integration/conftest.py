"""Fixtures of the integration tests."""

from tests.support.server_process import server

__all__ = ["server"]
