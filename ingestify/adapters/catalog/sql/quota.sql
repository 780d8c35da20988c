-- The daily quotas of Sources.

-- name: quota_used
SELECT used FROM {prefix}quota WHERE source = :source AND day = :day;

-- name: set_quota
INSERT INTO {prefix}quota (source, day, used) VALUES (:source, :day, :used)
ON CONFLICT (source, day) DO UPDATE SET used = excluded.used;

-- name: forget_quotas
DELETE FROM {prefix}quota WHERE day < :before;
