"""The operator's working directory: making it, kits for providers, certificates for officers."""
