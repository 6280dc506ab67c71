"""Storage: the database with its two kinds of transaction, tables, bulk writing, migrations."""
