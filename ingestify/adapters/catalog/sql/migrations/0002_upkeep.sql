-- Paths of Files whose Datasets were deleted: their bytes are removed afterwards.
CREATE TABLE {prefix}doomed (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

-- What this catalog is called in the lakes that it uses. Its copies are called otherwise.
CREATE TABLE {prefix}catalog_identity (catalog_id TEXT NOT NULL) STRICT;

INSERT INTO {prefix}catalog_identity (catalog_id) VALUES (lower(hex(randomblob(16))));
