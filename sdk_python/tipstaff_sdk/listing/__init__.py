"""The formats of a listing: tokens, sealed records, relief, and the catalogue of measures.

Built from identifiers and epoch keys; the server writes them with the code that reads them here.
"""
