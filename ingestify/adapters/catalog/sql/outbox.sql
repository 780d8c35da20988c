-- The event log, and how far each of its readers is.

-- name: events
SELECT row_id, type, schema_version, time, dataset_id, subject, revision, changed_feeds
FROM {prefix}event
WHERE row_id > :after
ORDER BY row_id
LIMIT :limit;

-- name: last_event
SELECT coalesce(max(row_id), 0) FROM {prefix}event;

-- name: reader_cursor
SELECT event FROM {prefix}reader_cursor WHERE name = :name;

-- name: insert_reader
INSERT INTO {prefix}reader_cursor (name, event, moved_at) VALUES (:name, :event, :at)
ON CONFLICT (name) DO NOTHING;

-- name: move_reader
UPDATE {prefix}reader_cursor SET event = :event, moved_at = :at
WHERE name = :name AND event = :expected;

-- name: readers
SELECT reader.name, reader.event, reader.moved_at,
    (SELECT count(*) FROM {prefix}event AS event WHERE event.row_id > reader.event)
FROM {prefix}reader_cursor AS reader
ORDER BY reader.name;
