"""The administration: measures, authorities, lists, audiences and providers, version by version."""
