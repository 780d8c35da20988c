-- The commit point, and what is looked up for it. Written by executemany: values by position.

-- CROSS JOIN keeps SQLite from reading the whole table to look up a page of keys.
-- name: look_up
SELECT wanted.key, dataset.row_id, dataset.dataset_id, dataset.revision, dataset.details_hash,
    file_check.data_feed_key, file_check.data_spec_version, file_check.outcome,
    file_check.run_id, file_check.checked_at, file_check.token, file_check.etag,
    file_check.last_modified, file_check.suspect, file_check.reason, file.sha256,
    CASE WHEN file_check.suspect = 2 THEN file.path END
FROM json_each(:keys) AS wanted
CROSS JOIN {prefix}dataset AS dataset
    ON dataset.bucket = :bucket AND dataset.stage = :stage AND dataset.provider = :provider
        AND dataset.dataset_type = :dataset_type AND dataset.identifier_key = wanted.value
LEFT JOIN {prefix}file_check AS file_check ON file_check.dataset = dataset.row_id
LEFT JOIN {prefix}file AS file ON file.row_id = file_check.file;

-- Reads the index of identities and no Dataset's row, which is large.
-- name: agreements
SELECT wanted.key, dataset.row_id, agreement.digest, coalesce(agreement.run_id, 0)
FROM json_each(:keys) AS wanted
CROSS JOIN {prefix}dataset AS dataset
    ON dataset.bucket = :bucket AND dataset.stage = :stage AND dataset.provider = :provider
        AND dataset.dataset_type = :dataset_type AND dataset.identifier_key = wanted.value
LEFT JOIN {prefix}agreement AS agreement ON agreement.dataset = dataset.row_id;

-- name: look_up_identities
SELECT wanted.key, dataset.row_id, dataset.dataset_id, dataset.revision, dataset.details_hash,
    dataset.name, dataset.state, dataset.metadata
FROM json_each(:identities) AS wanted
CROSS JOIN {prefix}dataset AS dataset
    ON dataset.bucket = json_extract(wanted.value, '$[0]')
        AND dataset.stage = json_extract(wanted.value, '$[1]')
        AND dataset.provider = json_extract(wanted.value, '$[2]')
        AND dataset.dataset_type = json_extract(wanted.value, '$[3]')
        AND dataset.identifier_key = json_extract(wanted.value, '$[4]');

-- name: next_row_ids
SELECT
    1 + coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{prefix}dataset'), 0),
    1 + coalesce((SELECT max(row_id) FROM {prefix}revision), 0),
    1 + coalesce((SELECT max(row_id) FROM {prefix}file), 0);

-- name: insert_dataset
INSERT INTO {prefix}dataset (
    row_id, dataset_id, bucket, stage, provider, dataset_type, identifier_key, identifier, name,
    state, metadata, details_hash, revision, created_at, updated_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_identity_part
INSERT INTO {prefix}identity_part (name, value, dataset) VALUES (?, ?, ?);

-- name: disagree
DELETE FROM {prefix}agreement WHERE dataset = ?;

-- Damage may have been found since the work was planned.
-- name: agree
INSERT INTO {prefix}agreement (dataset, digest, run_id)
SELECT ?, ?, ?
WHERE NOT EXISTS (
    SELECT 1 FROM {prefix}file_check WHERE dataset = ? AND (suspect OR outcome = 'failed')
)
ON CONFLICT (dataset) DO UPDATE SET digest = excluded.digest, run_id = excluded.run_id;

-- Before its Dataset's metadata changes: as long as it is the same, it is kept there alone.
-- name: keep_metadata
UPDATE {prefix}revision SET metadata = (SELECT metadata FROM {prefix}dataset WHERE row_id = ?)
WHERE dataset = ? AND metadata = '';

-- name: update_dataset
UPDATE {prefix}dataset
SET name = ?, state = ?, metadata = ?, details_hash = ?, revision = ?,
    updated_at = coalesce(?, updated_at)
WHERE row_id = ?;

-- name: insert_revision
INSERT INTO {prefix}revision (row_id, dataset, number, created_at, reason, state, run_id, metadata)
VALUES (?, ?, ?, ?, ?, 'pending', ?, '');

-- name: insert_file
INSERT INTO {prefix}file (
    row_id, revision, data_feed_key, data_spec_version, path, format, codec, size, sha256,
    stored_size, stored_sha256, content_type, validation
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- Bytes that are stored anew, of a File that stays what it was.
-- name: restore_file
UPDATE {prefix}file SET path = ?, codec = ?, stored_size = ?, stored_sha256 = ?
WHERE sha256 = ? AND row_id = (
    SELECT file FROM {prefix}file_check
    WHERE dataset = ? AND data_feed_key = ? AND data_spec_version = ?
);

-- Without new bytes the File that is stored stays, also where the provider has none any more;
-- and if it is damaged, it stays that.
-- name: upsert_file_check
INSERT INTO {prefix}file_check (
    dataset, data_feed_key, data_spec_version, file, outcome, run_id, checked_at, reason, token,
    etag, last_modified
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (dataset, data_feed_key, data_spec_version) DO UPDATE
SET file = coalesce(excluded.file, file), outcome = excluded.outcome,
    suspect = CASE
        WHEN suspect = 2 AND excluded.outcome NOT IN ('stored', 'restored') THEN 2 ELSE 0
    END,
    run_id = excluded.run_id, checked_at = excluded.checked_at, reason = excluded.reason,
    token = excluded.token, etag = excluded.etag, last_modified = excluded.last_modified;

-- name: fail_file_check
UPDATE {prefix}file_check SET outcome = 'failed', run_id = ?, checked_at = ?
WHERE dataset = ? AND data_feed_key = ? AND data_spec_version = ?;

-- name: insert_event
INSERT INTO {prefix}event (
    type, schema_version, time, dataset_id, subject, revision, changed_feeds
) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: newest_revisions
SELECT dataset.dataset_id, dataset.bucket, dataset.stage, dataset.provider, dataset.dataset_type,
    dataset.identifier_key, dataset.revision, file.data_feed_key
FROM json_each(:row_ids) AS wanted
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = wanted.value
JOIN {prefix}revision AS revision
    ON revision.dataset = dataset.row_id AND revision.number = dataset.revision
LEFT JOIN {prefix}file AS file ON file.revision = revision.row_id
ORDER BY dataset.row_id, file.data_feed_key, file.data_spec_version;

-- name: fail_newest_revisions
UPDATE {prefix}revision SET state = 'validation_failed', state_reason = :reason
FROM json_each(:row_ids) AS wanted
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = wanted.value
WHERE {prefix}revision.dataset = dataset.row_id AND {prefix}revision.number = dataset.revision;

-- name: suspect_newest_files
UPDATE {prefix}file_check SET suspect = 1
WHERE suspect = 0 AND file IN (
    SELECT file.row_id
    FROM json_each(:row_ids) AS wanted
    CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = wanted.value
    JOIN {prefix}revision AS revision
        ON revision.dataset = dataset.row_id AND revision.number = dataset.revision
    JOIN {prefix}file AS file ON file.revision = revision.row_id
);
