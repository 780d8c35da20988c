"""Where the metadata lives: in a SQLite file, or in memory."""
