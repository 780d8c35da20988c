-- What is done to a copy of the catalog, and what it is asked, before it gets its name.

-- name: rename_copy
UPDATE {prefix}catalog_identity SET catalog_id = lower(hex(randomblob(16)));

-- name: check_copy
PRAGMA quick_check;

-- name: count_copy
SELECT
    (SELECT count(*) FROM {prefix}dataset),
    (SELECT count(*) FROM {prefix}revision),
    (SELECT count(*) FROM {prefix}file),
    (SELECT count(*) FROM {prefix}run);
