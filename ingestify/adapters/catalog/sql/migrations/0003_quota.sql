-- How many requests were made to a Source, or set aside by a Run that goes on, on a UTC day.
CREATE TABLE {prefix}quota (
    source TEXT NOT NULL,
    day TEXT NOT NULL,
    used INTEGER NOT NULL CHECK (used >= 0),
    PRIMARY KEY (source, day)
) STRICT, WITHOUT ROWID;
