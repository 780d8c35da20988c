-- Runs, their SelectorRuns, leases and failures.

-- name: insert_run
INSERT INTO {prefix}run (status, fingerprint, started_at, heartbeat_at)
VALUES ('running', :fingerprint, :at, :at)
RETURNING row_id;

-- name: beat
UPDATE {prefix}run SET heartbeat_at = :at WHERE row_id = :run_id;

-- name: close_run
UPDATE {prefix}run
SET status = :status, finished_at = :finished_at, heartbeat_at = max(heartbeat_at, :finished_at),
    exit_code = :exit_code, counters = :counters, requests = :requests,
    received_bytes = :received_bytes, stored_bytes = :stored_bytes, warnings = :warnings,
    error = :error
WHERE row_id = :run_id;

-- name: silent_runs
SELECT run.row_id, lease.name
FROM {prefix}run AS run
LEFT JOIN {prefix}lease AS lease ON lease.run_id = run.row_id
WHERE run.status = 'running'
    AND run.heartbeat_at NOT BETWEEN :silent_since AND :ahead;

-- Asked again here whether each still runs, since it may have ended or beaten meanwhile.
-- name: crash_silent_runs
UPDATE {prefix}run
SET status = 'crashed', finished_at = :at, error = :error
WHERE status = 'running' AND heartbeat_at NOT BETWEEN :silent_since AND :ahead
    AND row_id IN (SELECT value FROM json_each(:run_ids))
RETURNING row_id;

-- name: crash_run
UPDATE {prefix}run
SET status = 'crashed', finished_at = :at, error = :error
WHERE status = 'running' AND row_id = :run_id;

-- name: stop_selector_runs
UPDATE {prefix}selector_run
SET status = 'stopped', finished_at = :at, error = :error
WHERE status = 'running' AND run IN (SELECT value FROM json_each(:run_ids));

-- name: runs
SELECT row_id, status, started_at, finished_at, counters, requests, received_bytes, stored_bytes,
    error, exit_code
FROM {prefix}run
ORDER BY row_id DESC
LIMIT :limit;

-- name: lease_holder
SELECT run_id, acquired_at FROM {prefix}lease WHERE name = :name;

-- name: take_lease
INSERT INTO {prefix}lease (name, token, run_id, acquired_at) VALUES (:name, 1, :run_id, :at)
ON CONFLICT (name) DO UPDATE
SET token = token + 1, run_id = excluded.run_id, acquired_at = excluded.acquired_at
RETURNING token;

-- name: give_lease_back
UPDATE {prefix}lease SET run_id = NULL
WHERE name = :name AND token = :token AND run_id IS NOT NULL;

-- name: held_leases
SELECT lease.name, lease.token
FROM json_each(:names) AS wanted
JOIN {prefix}lease AS lease ON lease.name = wanted.value
WHERE lease.run_id IS NOT NULL;

-- name: insert_failure
INSERT INTO {prefix}failure (
    run_id, selector_run, bucket, stage, provider, dataset_type, identifier_key, code, message,
    name, data_feed_key, selector, failed_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: resolve_failures
UPDATE {prefix}failure SET resolved_run = ?
WHERE bucket = ? AND stage = ? AND provider = ? AND dataset_type = ? AND identifier_key = ?
    AND resolved_run IS NULL;

-- name: resolve_failures_of_selector
UPDATE {prefix}failure AS failure SET resolved_run = :run_id
WHERE resolved_run IS NULL AND bucket = :bucket AND run_id < :run_id
    AND EXISTS (
        SELECT 1
        FROM {prefix}selector_run AS selector_run
        WHERE selector_run.row_id = failure.selector_run AND selector_run.selector = :selector
    );

-- name: resolve_failures_of_other_selectors
UPDATE {prefix}failure AS failure SET resolved_run = :run_id
WHERE resolved_run IS NULL AND bucket = :bucket AND run_id < :run_id
    AND EXISTS (
        SELECT 1
        FROM {prefix}selector_run AS selector_run
        JOIN {prefix}selector_state AS selector ON selector.row_id = selector_run.selector
        WHERE selector_run.row_id = failure.selector_run
            AND selector.bucket = :bucket AND selector.source = :source
            AND selector.dataset_type = :dataset_type
            AND selector.selector_key NOT IN (SELECT value FROM json_each(:selector_keys))
    );

-- name: run_failures
SELECT code, message, provider, dataset_type, identifier_key, name, data_feed_key, selector,
    run_id, failed_at, bucket
FROM {prefix}failure
WHERE run_id = :run_id
ORDER BY row_id DESC
LIMIT :limit;

-- name: dataset_failures_of_run
SELECT failure.code, failure.message, failure.provider, failure.dataset_type,
    failure.identifier_key, failure.name, failure.data_feed_key, failure.selector,
    failure.run_id, failure.failed_at, failure.bucket
FROM {prefix}dataset AS dataset
CROSS JOIN {prefix}failure AS failure
    ON failure.run_id = :run_id AND failure.bucket = dataset.bucket
        AND failure.stage = dataset.stage AND failure.provider = dataset.provider
        AND failure.dataset_type = dataset.dataset_type
        AND failure.identifier_key = dataset.identifier_key
WHERE dataset.dataset_id = :dataset_id
ORDER BY failure.row_id DESC
LIMIT :limit;

-- The newest one.
-- name: dataset_failures
SELECT failure.code, failure.message, failure.provider, failure.dataset_type,
    failure.identifier_key, failure.name, failure.data_feed_key, failure.selector,
    failure.run_id, failure.failed_at, failure.bucket
FROM {prefix}dataset AS dataset
CROSS JOIN {prefix}failure AS failure
    ON failure.bucket = dataset.bucket AND failure.stage = dataset.stage
        AND failure.provider = dataset.provider AND failure.dataset_type = dataset.dataset_type
        AND failure.identifier_key = dataset.identifier_key
WHERE dataset.dataset_id = :dataset_id AND failure.resolved_run IS NULL
ORDER BY failure.row_id DESC
LIMIT min(:limit, 1);

-- Of a Dataset the newest one, as long as nothing succeeded since; of a Selector those of its
-- newest SelectorRun that has ended.
-- name: open_failures
SELECT failure.code, failure.message, failure.provider, failure.dataset_type,
    failure.identifier_key, failure.name, failure.data_feed_key, failure.selector,
    failure.run_id, failure.failed_at, failure.bucket
FROM {prefix}failure AS failure
LEFT JOIN {prefix}selector_run AS selector_run
    ON failure.stage IS NULL AND selector_run.row_id = failure.selector_run
WHERE failure.resolved_run IS NULL
    AND CASE
        WHEN failure.stage IS NULL THEN selector_run.row_id = (
            SELECT max(newest.row_id)
            FROM {prefix}selector_run AS newest
            WHERE newest.selector = selector_run.selector AND newest.status <> 'running'
        )
        ELSE NOT EXISTS (
            SELECT 1
            FROM {prefix}failure AS newer
            WHERE newer.bucket = failure.bucket AND newer.stage = failure.stage
                AND newer.provider = failure.provider
                AND newer.dataset_type = failure.dataset_type
                AND newer.identifier_key = failure.identifier_key
                AND newer.resolved_run IS NULL AND newer.row_id > failure.row_id
        )
    END
ORDER BY failure.row_id DESC
LIMIT :limit;
