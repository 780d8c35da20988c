-- Looking after the lake: what should lie in it, what was found damaged, and what is to go.

-- name: kept_files
SELECT file.row_id, dataset.row_id, dataset.dataset_id, dataset.bucket, dataset.provider,
    dataset.dataset_type, dataset.identifier_key, dataset.name, file_check.file IS NOT NULL,
    coalesce(file_check.suspect = 2, 0), file.data_feed_key, file.data_spec_version,
    revision.number, file.path, file.format, file.codec, file.size, file.sha256,
    file.stored_size, file.stored_sha256, file.content_type, file.validation
FROM {prefix}file AS file
JOIN {prefix}revision AS revision ON revision.row_id = file.revision
JOIN {prefix}dataset AS dataset ON dataset.row_id = revision.dataset
LEFT JOIN {prefix}file_check AS file_check ON file_check.file = file.row_id
WHERE {is_wanted}
    AND file.row_id > :after_file
ORDER BY file.row_id
LIMIT :limit;

-- name: kept_files_among
SELECT file.row_id, dataset.row_id, dataset.dataset_id, dataset.bucket, dataset.provider,
    dataset.dataset_type, dataset.identifier_key, dataset.name, file_check.file IS NOT NULL,
    coalesce(file_check.suspect = 2, 0), file.data_feed_key, file.data_spec_version,
    revision.number, file.path, file.format, file.codec, file.size, file.sha256,
    file.stored_size, file.stored_sha256, file.content_type, file.validation
FROM json_each(:row_ids) AS few
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = few.value
CROSS JOIN {prefix}revision AS revision ON revision.dataset = dataset.row_id
CROSS JOIN {prefix}file AS file ON file.revision = revision.row_id
LEFT JOIN {prefix}file_check AS file_check ON file_check.file = file.row_id
WHERE {is_wanted}
    AND file.row_id > :after_file
ORDER BY file.row_id
LIMIT :limit;

-- name: files_by_row_id
SELECT file.row_id, dataset.row_id, dataset.dataset_id, dataset.bucket, dataset.provider,
    dataset.dataset_type, dataset.identifier_key, dataset.name, file_check.file IS NOT NULL,
    coalesce(file_check.suspect = 2, 0), file.data_feed_key, file.data_spec_version,
    revision.number, file.path, file.format, file.codec, file.size, file.sha256,
    file.stored_size, file.stored_sha256, file.content_type, file.validation
FROM json_each(:row_ids) AS few
CROSS JOIN {prefix}file AS file ON file.row_id = few.value
CROSS JOIN {prefix}revision AS revision ON revision.row_id = file.revision
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = revision.dataset
LEFT JOIN {prefix}file_check AS file_check ON file_check.file = file.row_id
ORDER BY file.row_id;

-- name: count_files_among
SELECT count(*), coalesce(sum(file.stored_size), 0)
FROM json_each(:row_ids) AS few
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = few.value
CROSS JOIN {prefix}revision AS revision ON revision.dataset = dataset.row_id
CROSS JOIN {prefix}file AS file ON file.revision = revision.row_id
WHERE {is_wanted};

-- name: count_files
SELECT count(*), coalesce(sum(file.stored_size), 0)
FROM {prefix}file AS file
JOIN {prefix}revision AS revision ON revision.row_id = file.revision
JOIN {prefix}dataset AS dataset ON dataset.row_id = revision.dataset
WHERE {is_wanted};

-- name: mark_damaged
UPDATE {prefix}file_check SET suspect = 2
WHERE file IN (SELECT value FROM json_each(:files));

-- name: mark_sound
UPDATE {prefix}file_check SET suspect = 0
WHERE suspect = 2 AND file IN (SELECT value FROM json_each(:files));

-- A scan of the whole table, since paths have no index.
-- name: referenced
SELECT DISTINCT path FROM {prefix}file WHERE path IN (SELECT value FROM json_each(:paths));

-- name: listed_in
SELECT DISTINCT listing.dataset, selector.selector_key
FROM json_each(:row_ids) AS wanted
CROSS JOIN {prefix}listing AS listing ON listing.dataset = wanted.value
JOIN {prefix}selector_state AS selector ON selector.row_id = listing.selector;

-- name: catalog_id
SELECT catalog_id FROM {prefix}catalog_identity;

-- name: doom_files
INSERT OR IGNORE INTO {prefix}doomed (path)
SELECT file.path
FROM json_each(:row_ids) AS wanted
CROSS JOIN {prefix}revision AS revision ON revision.dataset = wanted.value
JOIN {prefix}file AS file ON file.revision = revision.row_id;

-- name: weigh_files
SELECT count(*), coalesce(sum(file.stored_size), 0)
FROM json_each(:row_ids) AS wanted
CROSS JOIN {prefix}revision AS revision ON revision.dataset = wanted.value
JOIN {prefix}file AS file ON file.revision = revision.row_id;

-- Whoever has listed them has to look again from the beginning: they are new if still listed.
-- name: forget_lists
UPDATE {prefix}selector_state
SET fingerprint = NULL, validators = NULL, state = '{}', listed = NULL
WHERE row_id IN (
    SELECT listing.selector
    FROM json_each(:row_ids) AS wanted
    CROSS JOIN {prefix}listing AS listing ON listing.dataset = wanted.value
);

-- name: delete_datasets
DELETE FROM {prefix}dataset WHERE row_id IN (SELECT value FROM json_each(:row_ids));

-- name: delete_identity_part
DELETE FROM {prefix}identity_part WHERE name = ? AND value = ? AND dataset = ?;

-- name: identities
SELECT dataset.row_id, dataset.dataset_id, dataset.bucket, dataset.stage, dataset.provider,
    dataset.dataset_type, dataset.identifier_key, dataset.revision
FROM json_each(:row_ids) AS wanted
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = wanted.value
ORDER BY dataset.row_id;

-- name: doomed
SELECT path FROM {prefix}doomed WHERE path > :after ORDER BY path LIMIT :limit;

-- name: forget_doomed
DELETE FROM {prefix}doomed WHERE path IN (SELECT value FROM json_each(:paths));
