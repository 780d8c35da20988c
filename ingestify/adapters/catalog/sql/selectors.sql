-- What is known of Selectors, and which Datasets they list.

-- name: selector_state
SELECT selector.row_id,
    (
        SELECT max(selector_run.row_id)
        FROM {prefix}selector_run AS selector_run
        WHERE selector_run.selector = selector.row_id
    ),
    selector.token, selector.token_run_id, selector.complete_token, selector.fingerprint,
    selector.validators, selector.state, selector.settled,
    (
        SELECT selector_run.run
        FROM {prefix}selector_run AS selector_run
        WHERE selector_run.selector = selector.row_id
        ORDER BY selector_run.row_id DESC
        LIMIT 1
    )
FROM {prefix}selector_state AS selector
WHERE selector.bucket = :bucket AND selector.source = :source
    AND selector.dataset_type = :dataset_type AND selector.selector_key = :selector_key;

-- A token that is not given never differs from the one that is known.
-- name: meet_selector
INSERT INTO {prefix}selector_state (
    bucket, source, dataset_type, selector_key, name, token, token_run_id, state
) VALUES (
    :bucket, :source, :dataset_type, :selector_key, :name, :token,
    CASE WHEN :token IS NULL THEN 0 ELSE :run_id END, '{}'
)
ON CONFLICT (bucket, source, dataset_type, selector_key) DO UPDATE
SET name = coalesce(excluded.name, name),
    token_run_id = CASE
        WHEN excluded.token IS NULL OR excluded.token IS token THEN token_run_id
        ELSE excluded.token_run_id
    END,
    token = coalesce(excluded.token, token)
RETURNING row_id;

-- name: open_selector_run
INSERT INTO {prefix}selector_run (run, selector, status, started_at)
VALUES (:run_id, :selector, 'running', :at);

-- name: close_selector_run
UPDATE {prefix}selector_run
SET status = :status, finished_at = :at, counters = :counters, reasons = :reasons, error = :error
WHERE row_id = :selector_run_id AND run = :run_id
RETURNING selector;

-- name: distrust_selector
UPDATE {prefix}selector_state SET fingerprint = NULL
WHERE row_id = :selector AND fingerprint IS NOT NULL;

-- name: complete_selector
UPDATE {prefix}selector_state
SET complete_token = token,
    fingerprint = CASE WHEN :clean THEN :fingerprint END,
    validators = CASE WHEN :clean AND :unchanged THEN validators WHEN :clean THEN :validators END,
    state = CASE WHEN :clean AND NOT :unchanged THEN :state ELSE state END
WHERE row_id = :selector;

-- name: what_was_listed
SELECT settled, listed FROM {prefix}selector_state WHERE row_id = :selector;

-- name: settle_selector
UPDATE {prefix}selector_state SET listed = :listed, settled = NOT EXISTS (
    SELECT 1
    FROM {prefix}listing AS listing
    JOIN {prefix}file_check AS file_check ON file_check.dataset = listing.dataset
    WHERE listing.selector = :selector AND listing.gone_since IS NULL
        AND (file_check.outcome = 'failed' OR file_check.suspect)
)
WHERE row_id = :selector;

-- name: some_are_gone
SELECT EXISTS (
    SELECT 1
    FROM json_each(:row_ids) AS met
    WHERE NOT EXISTS (SELECT 1 FROM {prefix}dataset AS dataset WHERE dataset.row_id = met.value)
);

-- A Dataset that was deleted while its list was read is not listed.
-- name: list_met
INSERT INTO {prefix}listing (selector, dataset, first_listed_at)
SELECT :selector, dataset.row_id, :at
FROM json_each(:row_ids) AS met
CROSS JOIN {prefix}dataset AS dataset ON dataset.row_id = met.value
WHERE true
ON CONFLICT (selector, dataset) DO UPDATE SET gone_since = NULL WHERE gone_since IS NOT NULL;

-- name: list_gone
UPDATE {prefix}listing SET gone_since = :at
WHERE selector = :selector AND gone_since IS NULL
    AND dataset NOT IN (SELECT value FROM json_each(:row_ids));

-- name: has_unsettled
SELECT EXISTS (
    SELECT 1
    FROM {prefix}selector_state AS selector
    JOIN {prefix}listing AS listing
        ON listing.selector = selector.row_id AND listing.gone_since IS NULL
    JOIN {prefix}file_check AS file_check ON file_check.dataset = listing.dataset
    WHERE selector.bucket = :bucket AND selector.source = :source
        AND selector.dataset_type = :dataset_type AND selector.selector_key = :selector_key
        AND (
            file_check.outcome = 'failed' OR file_check.suspect
            OR file_check.checked_at < :older_than
        )
);
