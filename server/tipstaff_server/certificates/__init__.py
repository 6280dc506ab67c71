"""Certificates of mutual TLS: who a caller is, what is revoked, the server's own files, and a
certification authority for development.
"""
