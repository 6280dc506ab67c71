"""An operator's working directory: how it is made and laid out, keys that wrap epoch keys,
officers' certificates, kits for providers, and revocation.
"""
