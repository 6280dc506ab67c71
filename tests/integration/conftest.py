"""Fixtures of the integration tests."""

from tests.support.server_process import server, session_server

__all__ = ["server", "session_server"]
