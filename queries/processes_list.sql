-- Which processes ran, in order of time, and how did each end?
--
-- Parameters:
--   commands_only bool = false: only what the agents ran, without the processes
--     that matched the recording's filters themselves
--   failed_only bool = false: only processes that ended with a status other
--     than 0 or by a signal
-- Columns:
--   start_ts: when it was created
--   pid: process id
--   ppid: parent process id when first seen
--   command: its arguments joined by spaces, else its name
--   cwd: working directory
--   is_agent: whether it matched the filters or made a call to a model
--   end_ts: when it ended
--   lifetime_ms: from creation to its end, milliseconds
--   exit_code: exit status
--   signal: signal that ended it
-- Absence:
--   end_ts, lifetime_ms, exit_code and signal are NULL for a process that
--   outlived the recording; what each used is in processes_by_cpu
SELECT
  start_ts,
  pid,
  ppid,
  coalesce(nullif(array_to_string(argv, ' '), ''), comm) AS command,
  cwd,
  is_agent,
  end_ts,
  CAST(CAST(end_ts AS BIGINT) - CAST(start_ts AS BIGINT) AS DOUBLE) / 1e6
    AS lifetime_ms,
  exit_code,
  signal
FROM processes
WHERE (NOT $commands_only OR NOT matched)
  AND (NOT $failed_only OR exit_code <> 0 OR signal IS NOT NULL)
ORDER BY start_ts, pid
