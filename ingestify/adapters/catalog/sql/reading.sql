-- What readers ask. Filters that are NULL admit everything.
--
-- json_extract with two paths answers with JSON text: integers of any size stay exact, and 1 and
-- "1" stay apart. The wanted values are written in that form, too: '[1,1]', '["1","1"]'.

-- The name with the most values is the lead: its values are made a set once for each statement.

-- A condition that stands in several statements, there as its name in braces.
-- name: is_wanted
dataset.row_id > :after AND dataset.row_id <= :until
    AND (:bucket IS NULL OR dataset.bucket = :bucket)
    AND (:stage IS NULL OR dataset.stage = :stage)
    AND (:provider IS NULL OR dataset.provider = :provider)
    AND (:dataset_type IS NULL OR dataset.dataset_type = :dataset_type)
    AND (:states IS NULL OR dataset.state IN (SELECT value FROM json_each(:states)))
    AND (:lead IS NULL
        OR json_extract(dataset.identifier_key, '$.' || :lead, '$.' || :lead)
            IN (SELECT value FROM json_each(:lead_values)))
    AND (:identifier IS NULL OR NOT EXISTS (
        SELECT 1
        FROM json_each(:identifier) AS wanted
        WHERE json_extract(dataset.identifier_key, '$.' || wanted.key, '$.' || wanted.key)
            NOT IN (SELECT value FROM json_each(wanted.value))
    ))
    AND (:metadata IS NULL OR NOT EXISTS (
        SELECT 1
        FROM json_each(:metadata) AS wanted
        WHERE CASE json_type(dataset.metadata, '$.' || wanted.key)
            WHEN 'text' THEN 'text ' || json_extract(dataset.metadata, '$.' || wanted.key)
            WHEN 'integer'
                THEN json_extract(dataset.metadata, '$.' || wanted.key, '$.' || wanted.key)
            ELSE ''
        END NOT IN (SELECT value FROM json_each(wanted.value))
    ));

-- name: count
SELECT count(*)
FROM {prefix}dataset AS dataset
WHERE {is_wanted};

-- name: count_among
SELECT count(*)
FROM json_each(:row_ids) AS few
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = few.value
WHERE {is_wanted};

-- The Datasets that have a value of one name, as far as *most*.
-- name: find_parts
SELECT dataset FROM {prefix}identity_part
WHERE name = :name AND value IN (SELECT value FROM json_each(:values))
    AND dataset > :after AND dataset <= :until
LIMIT :most;

-- name: find
SELECT dataset.row_id, dataset.dataset_id, dataset.bucket, dataset.stage, dataset.provider,
    dataset.dataset_type, dataset.identifier, dataset.name, dataset.state, dataset.metadata,
    dataset.created_at, dataset.updated_at, dataset.revision
FROM {prefix}dataset AS dataset
WHERE {is_wanted}
ORDER BY dataset.row_id
LIMIT :limit;

-- name: find_among
SELECT dataset.row_id, dataset.dataset_id, dataset.bucket, dataset.stage, dataset.provider,
    dataset.dataset_type, dataset.identifier, dataset.name, dataset.state, dataset.metadata,
    dataset.created_at, dataset.updated_at, dataset.revision
FROM json_each(:row_ids) AS few
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = few.value
WHERE {is_wanted}
ORDER BY few.key
LIMIT :limit;

-- name: get
SELECT row_id, dataset_id, bucket, stage, provider, dataset_type, identifier, name, state,
    metadata, created_at, updated_at, revision
FROM {prefix}dataset
WHERE dataset_id = :dataset_id;

-- name: current_files
SELECT file_check.dataset, file.data_feed_key, file.data_spec_version, revision.number,
    file.path, file.format, file.codec, file.size, file.sha256, file.stored_size,
    file.stored_sha256, file.content_type, file.validation
FROM json_each(:row_ids) AS wanted
CROSS JOIN {prefix}file_check AS file_check ON file_check.dataset = wanted.value
JOIN {prefix}file AS file ON file.row_id = file_check.file
JOIN {prefix}revision AS revision ON revision.row_id = file.revision
ORDER BY file_check.dataset, file_check.data_feed_key, file_check.data_spec_version;

-- name: revisions
SELECT revision.number, revision.created_at, revision.reason, revision.state, revision.run_id,
    CASE revision.metadata WHEN '' THEN dataset.metadata ELSE revision.metadata END
FROM {prefix}revision AS revision
JOIN {prefix}dataset AS dataset ON dataset.row_id = revision.dataset
WHERE revision.dataset = :dataset
ORDER BY revision.number;

-- name: revision_files
SELECT revision.number, file.data_feed_key, file.data_spec_version, revision.number,
    file.path, file.format, file.codec, file.size, file.sha256, file.stored_size,
    file.stored_sha256, file.content_type, file.validation
FROM {prefix}revision AS revision
JOIN {prefix}file AS file ON file.revision = revision.row_id
WHERE revision.dataset = :dataset
ORDER BY revision.number, file.data_feed_key, file.data_spec_version;

-- name: checks
SELECT data_feed_key, data_spec_version, outcome, run_id, checked_at, token, etag, last_modified,
    suspect, reason
FROM {prefix}file_check
WHERE dataset = :dataset
ORDER BY data_feed_key, data_spec_version;
