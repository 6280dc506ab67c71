"""What providers did: their reports and counts, the statistics of them, and who lags behind."""
