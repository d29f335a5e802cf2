-- Which processes were observed, and what did each use?
--
-- Columns:
--   pid: process id
--   ppid: parent process id when first seen
--   command: its arguments, else its name
--   is_agent: whether it matched the filters or made a call to a model
--   start_ts: when it was created
--   end_ts: when it ended
--   exit_code: exit status
--   signal: signal that ended it
--   cpu_ms: CPU time over its life, milliseconds
--   peak_rss_bytes: highest resident memory, bytes
-- Absence:
--   end_ts is NULL for processes that outlived the recording
SELECT
  pid,
  ppid,
  coalesce(array_to_string(argv, ' '), comm) AS command,
  is_agent,
  start_ts,
  end_ts,
  exit_code,
  signal,
  cpu_ms,
  peak_rss_bytes
FROM processes
ORDER BY start_ts, pid
