"""Keeps local data current: follows the server or a mirror, verifies, loads, and sends reports.

All network traffic of the SDK goes through here.
"""
