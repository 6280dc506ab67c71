"""Files as courts send them: encodings, CSV, JSON Lines and Parquet, each read into cells."""
