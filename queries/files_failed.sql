-- Which files could not be opened, and why?
--
-- Columns:
--   path: the path that was asked for
--   errno: why: 2 is ENOENT (there is no such file), 13 EACCES (not allowed)
--   failed_opens: how often
--   processes: how many processes tried
--   comm: name of one of them
--   first_ts: when first
--   last_ts: when last
-- Absence:
--   no rows: every file that was asked for could be opened, or the recorder was
--   told not to look; path is NULL where it was lost
SELECT
  path,
  errno,
  sum(failed_opens) AS failed_opens,
  count(*) AS processes,
  max(comm) AS comm,
  min(first_ts) AS first_ts,
  max(last_ts) AS last_ts
FROM files
WHERE failed_opens > 0
GROUP BY path, errno
ORDER BY failed_opens DESC, path NULLS LAST, errno
