"""The vault: encrypted columns and blind indexes, their keys, epoch keys, stretched identifiers."""
