"""Who calls: certificates, what they say about their holder, and which of them were revoked."""
