-- Which files did the session write, make, rename or remove?
--
-- Columns:
--   path: the file
--   processes: how many processes did so
--   comm: name of one of them
--   writes: calls that wrote to it
--   written_bytes: bytes written, bytes
--   created: whether one of them made it
--   truncated: whether one of them truncated it
--   renamed_from: path that became this one
--   renamed_to: path that it was given instead
--   deleted_ts: when it was last removed
--   first_ts: when it was first used for that
--   last_ts: when last
-- Absence:
--   no rows: nothing was changed, or the recorder was told not to look; path is
--   NULL where it was lost; renamed_from, renamed_to and deleted_ts are NULL
--   where that was not done
SELECT
  path,
  count(*) AS processes,
  max(comm) AS comm,
  sum(writes) AS writes,
  sum(written_bytes) AS written_bytes,
  max(CASE WHEN created THEN 1 ELSE 0 END) = 1 AS created,
  max(CASE WHEN truncated OR flags LIKE '%O_TRUNC%' THEN 1 ELSE 0 END) = 1
    AS truncated,
  max(renamed_from) AS renamed_from,
  max(renamed_to) AS renamed_to,
  max(deleted_ts) AS deleted_ts,
  min(first_ts) AS first_ts,
  max(last_ts) AS last_ts
FROM files
WHERE written_bytes > 0
  OR created
  OR truncated
  OR (opens > 0 AND flags LIKE '%O_TRUNC%' AND path NOT LIKE '/dev/%')
  OR renamed_from IS NOT NULL
  OR renamed_to IS NOT NULL
  OR deleted_ts IS NOT NULL
GROUP BY path
ORDER BY written_bytes DESC, first_ts, path NULLS LAST
