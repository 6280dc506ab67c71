"""Made-up lists for tests and demonstrations: valid check digits, names that nobody has."""
