-- Which commands did the agents run, in order, and how did they end?
--
-- Parameters:
--   failed_only bool = false: only commands that ended with a status other
--     than 0 or by a signal
-- Columns:
--   start_ts: when the process was created
--   pid: process id
--   ppid: process id of its parent
--   command: arguments joined by spaces
--   cwd: working directory
--   lifetime_ms: from creation to its end, milliseconds
--   cpu_ms: CPU time of all its threads, milliseconds
--   exit_code: exit status
--   signal: signal that ended it
-- Absence:
--   exit_code and signal are both NULL for a command that was still running
SELECT
  start_ts,
  pid,
  ppid,
  coalesce(nullif(array_to_string(argv, ' '), ''), comm) AS command,
  cwd,
  CAST(CAST(end_ts AS BIGINT) - CAST(start_ts AS BIGINT) AS DOUBLE) / 1e6
    AS lifetime_ms,
  cpu_ms,
  exit_code,
  signal
FROM processes
WHERE NOT matched
  AND (NOT $failed_only OR exit_code <> 0 OR signal IS NOT NULL)
ORDER BY start_ts, pid
