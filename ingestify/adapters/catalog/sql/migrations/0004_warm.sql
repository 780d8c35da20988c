-- What lets a Run, and a reader, leave alone what has not changed.

-- What the provider said of a Dataset when all the Files that it offered were last asked for at
-- once, and were sound: as long as it says the same, nothing has to be asked for.
CREATE TABLE {prefix}agreement (
    dataset INTEGER PRIMARY KEY REFERENCES {prefix}dataset (row_id) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    run_id INTEGER NOT NULL
) STRICT;

-- Whether nothing that a Selector lists has failed or is suspect; and a digest of the row ids of
-- what it listed when it was last complete.
ALTER TABLE {prefix}selector_state ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {prefix}selector_state ADD COLUMN listed BLOB;

CREATE TRIGGER {prefix}file_check_in_doubt AFTER UPDATE ON {prefix}file_check
WHEN NEW.suspect OR NEW.outcome = 'failed'
BEGIN
    DELETE FROM {prefix}agreement WHERE dataset = NEW.dataset;
    UPDATE {prefix}selector_state SET settled = 0
    WHERE settled AND row_id IN (
        SELECT selector FROM {prefix}listing WHERE dataset = NEW.dataset
    );
END;

-- The parts of every identity, to be found by: the value as JSON, so that 1 and "1" stay apart.
-- Its rows are written and removed with their Dataset's.
CREATE TABLE {prefix}identity_part (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    dataset INTEGER NOT NULL,
    PRIMARY KEY (name, value, dataset)
) STRICT, WITHOUT ROWID;

-- json_extract with two paths answers with JSON text, '[1,1]', whatever the size of a number.
INSERT INTO {prefix}identity_part (name, value, dataset)
SELECT name, substr(twice, 2, (length(twice) - 3) / 2), row_id
FROM (
    SELECT part.key AS name, dataset.row_id,
        json_extract(dataset.identifier_key, '$.' || part.key, '$.' || part.key) AS twice
    FROM {prefix}dataset AS dataset
    CROSS JOIN json_each(dataset.identifier_key) AS part
);
