"""Keys at rest: rotating them, encrypting anew, and another cost of stretching identifiers."""
