-- Which processes used most CPU time, and how much memory?
--
-- Columns:
--   pid: process id
--   start_ts: when it was created
--   end_ts: when its last thread ended
--   ppid: process id of its parent
--   comm: its name
--   argv: arguments of the program it last executed
--   is_agent: whether it matched the recording's filters itself or made a call
--     to a model
--   lifetime_ms: from creation to its end, milliseconds
--   cpu_ms: CPU time of all its threads, children not included, milliseconds
--   avg_cpu_percent: CPU time by lifetime, percent of one core
--   peak_rss_bytes: highest resident set size, bytes
--   exit_code: exit status
--   signal: signal that ended it
-- Absence:
--   end_ts and lifetime_ms are NULL for a process that was still running; then
--   CPU and memory are those of its last sample, and NULL when there is none
SELECT
  pid,
  start_ts,
  end_ts,
  ppid,
  comm,
  argv,
  is_agent,
  CAST(CAST(end_ts AS BIGINT) - CAST(start_ts AS BIGINT) AS DOUBLE) / 1e6
    AS lifetime_ms,
  cpu_ms,
  avg_cpu_percent,
  peak_rss_bytes,
  exit_code,
  signal
FROM processes
ORDER BY cpu_ms DESC NULLS LAST, start_ts, pid
