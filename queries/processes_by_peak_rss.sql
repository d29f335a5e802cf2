-- Which processes used the most memory?
--
-- Columns:
--   pid: process id
--   start_ts: when it was created
--   comm: its name
--   peak_rss_bytes: highest resident set size, bytes
--   cpu_ms: CPU time of all its threads, milliseconds
--   exit_code: exit status
--   signal: signal that ended it
--   argv: arguments of the program it last executed
-- Absence:
--   peak_rss_bytes is NULL for a process that neither ended nor was sampled
SELECT
  pid,
  start_ts,
  comm,
  peak_rss_bytes,
  cpu_ms,
  exit_code,
  signal,
  argv
FROM processes
ORDER BY peak_rss_bytes DESC NULLS LAST, start_ts, pid
