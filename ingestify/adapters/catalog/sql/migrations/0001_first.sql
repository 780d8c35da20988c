-- Moments are ISO 8601 text in UTC, of one width, so that they sort as they read.
-- JSON is kept as text. A "run" or "run_id" column is a plain number: Runs may be pruned.

CREATE TABLE {prefix}dataset (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset_id TEXT NOT NULL UNIQUE,
    bucket TEXT NOT NULL,
    stage TEXT NOT NULL,
    provider TEXT NOT NULL,
    dataset_type TEXT NOT NULL,
    identifier_key TEXT NOT NULL CHECK (json_valid(identifier_key)),
    -- The same, with its names in the order in which the Source has them.
    identifier TEXT NOT NULL CHECK (json_valid(identifier)),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    -- One row that is no JSON would make every query that filters by metadata fail.
    metadata TEXT NOT NULL CHECK (json_valid(metadata)),
    details_hash TEXT NOT NULL,
    revision INTEGER,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (bucket, stage, provider, dataset_type, identifier_key)
) STRICT;

CREATE TABLE {prefix}revision (
    row_id INTEGER PRIMARY KEY,
    dataset INTEGER NOT NULL REFERENCES {prefix}dataset (row_id) ON DELETE CASCADE,
    number INTEGER NOT NULL CHECK (number >= 0),
    created_at TEXT NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT,
    run_id INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (dataset, number)
) STRICT;

CREATE TABLE {prefix}file (
    row_id INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL REFERENCES {prefix}revision (row_id) ON DELETE CASCADE,
    data_feed_key TEXT NOT NULL,
    data_spec_version TEXT NOT NULL,
    path TEXT NOT NULL,
    format TEXT NOT NULL,
    codec TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    stored_size INTEGER NOT NULL,
    stored_sha256 TEXT NOT NULL,
    content_type TEXT,
    validation TEXT NOT NULL,
    UNIQUE (revision, data_feed_key, data_spec_version)
) STRICT;

CREATE TABLE {prefix}file_check (
    dataset INTEGER NOT NULL REFERENCES {prefix}dataset (row_id) ON DELETE CASCADE,
    data_feed_key TEXT NOT NULL,
    data_spec_version TEXT NOT NULL,
    file INTEGER REFERENCES {prefix}file (row_id) ON DELETE SET NULL,
    outcome TEXT NOT NULL,
    suspect INTEGER NOT NULL DEFAULT 0,
    run_id INTEGER NOT NULL,
    checked_at TEXT NOT NULL,
    reason TEXT NOT NULL,
    token TEXT,
    etag TEXT,
    last_modified TEXT,
    PRIMARY KEY (dataset, data_feed_key, data_spec_version)
) STRICT, WITHOUT ROWID;

CREATE INDEX {prefix}file_check_file ON {prefix}file_check (file) WHERE file IS NOT NULL;

CREATE TABLE {prefix}selector_state (
    row_id INTEGER PRIMARY KEY,
    bucket TEXT NOT NULL,
    source TEXT NOT NULL,
    dataset_type TEXT NOT NULL,
    selector_key TEXT NOT NULL,
    name TEXT,
    token TEXT,
    token_run_id INTEGER NOT NULL,
    complete_token TEXT,
    fingerprint TEXT,
    validators TEXT,
    state TEXT NOT NULL,
    UNIQUE (bucket, source, dataset_type, selector_key)
) STRICT;

CREATE TABLE {prefix}listing (
    selector INTEGER NOT NULL REFERENCES {prefix}selector_state (row_id) ON DELETE CASCADE,
    dataset INTEGER NOT NULL REFERENCES {prefix}dataset (row_id) ON DELETE CASCADE,
    first_listed_at TEXT NOT NULL,
    gone_since TEXT,
    PRIMARY KEY (selector, dataset)
) STRICT, WITHOUT ROWID;

CREATE INDEX {prefix}listing_dataset ON {prefix}listing (dataset);

CREATE TABLE {prefix}run (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    status TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    started_at TEXT NOT NULL,
    heartbeat_at TEXT NOT NULL,
    finished_at TEXT,
    exit_code INTEGER,
    counters TEXT NOT NULL DEFAULT '{}',
    requests INTEGER NOT NULL DEFAULT 0,
    received_bytes INTEGER NOT NULL DEFAULT 0,
    stored_bytes INTEGER NOT NULL DEFAULT 0,
    warnings TEXT NOT NULL DEFAULT '[]',
    error TEXT
) STRICT;

CREATE INDEX {prefix}run_running ON {prefix}run (row_id) WHERE status = 'running';

CREATE TABLE {prefix}selector_run (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES {prefix}run (row_id) ON DELETE CASCADE,
    selector INTEGER NOT NULL REFERENCES {prefix}selector_state (row_id) ON DELETE CASCADE,
    status TEXT NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    counters TEXT NOT NULL DEFAULT '{}',
    reasons TEXT NOT NULL DEFAULT '{}',
    error TEXT
) STRICT;

CREATE INDEX {prefix}selector_run_run ON {prefix}selector_run (run);
CREATE INDEX {prefix}selector_run_selector ON {prefix}selector_run (selector);

CREATE TABLE {prefix}failure (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL,
    selector_run INTEGER,
    bucket TEXT NOT NULL,
    stage TEXT,  -- NULL: it concerns a Selector or one of its records, not a Dataset
    provider TEXT NOT NULL,
    dataset_type TEXT NOT NULL,
    identifier_key TEXT,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    name TEXT,
    data_feed_key TEXT,
    selector TEXT,
    failed_at TEXT NOT NULL,
    resolved_run INTEGER
) STRICT;

CREATE INDEX {prefix}failure_run ON {prefix}failure (run_id);
CREATE INDEX {prefix}failure_open
ON {prefix}failure (bucket, stage, provider, dataset_type, identifier_key)
WHERE resolved_run IS NULL;

CREATE TABLE {prefix}event (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    type TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    time TEXT NOT NULL,
    dataset_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    revision INTEGER,
    changed_feeds TEXT NOT NULL
) STRICT;

CREATE TABLE {prefix}reader_cursor (
    name TEXT PRIMARY KEY,
    event INTEGER NOT NULL,
    moved_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE {prefix}lease (
    name TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    run_id INTEGER,  -- NULL: given back
    acquired_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
