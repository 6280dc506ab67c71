"""Runnable integrations, one per sector, and the demo that runs them all."""
