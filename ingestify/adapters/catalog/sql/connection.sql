-- What every connection is told, and how transactions begin and end.

-- name: set_journal_mode
PRAGMA journal_mode = wal;

-- name: set_synchronous
PRAGMA synchronous = full;

-- name: get_synchronous
PRAGMA synchronous;

-- name: set_foreign_keys
PRAGMA foreign_keys = on;

-- name: get_foreign_keys
PRAGMA foreign_keys;

-- name: set_busy_timeout
PRAGMA busy_timeout = 1000;

-- name: get_busy_timeout
PRAGMA busy_timeout;

-- name: set_cache_size
PRAGMA cache_size = -4096;

-- name: set_autocheckpoint
PRAGMA wal_autocheckpoint = 4000;

-- name: set_query_only
PRAGMA query_only = on;

-- name: begin_writing
BEGIN IMMEDIATE;

-- name: begin_reading
BEGIN DEFERRED;

-- name: commit
COMMIT;

-- name: savepoint
SAVEPOINT one_commit;

-- name: undo_to_savepoint
ROLLBACK TO SAVEPOINT one_commit;

-- name: release_savepoint
RELEASE SAVEPOINT one_commit;

-- One of several jobs that share a transaction.
-- name: savepoint_of_job
SAVEPOINT one_job;

-- name: undo_job
ROLLBACK TO SAVEPOINT one_job;

-- name: release_job
RELEASE SAVEPOINT one_job;

-- name: undo_all
ROLLBACK;

-- Lets SQLite read the first page of a file that a crash left shorter than that page says.
-- name: take_what_is_there
PRAGMA writable_schema = ON;

-- name: get_application_id
PRAGMA application_id;

-- The number that migrations.py calls APPLICATION_ID: "inge" in ASCII.
-- name: set_application_id
PRAGMA application_id = 1768843109;

-- name: count_tables
SELECT count(*) FROM sqlite_schema;

-- name: has_version
SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '{prefix}catalog_version';

-- name: create_version
CREATE TABLE {prefix}catalog_version (version INTEGER NOT NULL) STRICT;

-- name: insert_version
INSERT INTO {prefix}catalog_version (version) VALUES (0);

-- name: get_version
SELECT version FROM {prefix}catalog_version;

-- name: set_version
UPDATE {prefix}catalog_version SET version = :version;
