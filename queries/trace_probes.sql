-- In which binaries was TLS plaintext looked for, and found?
--
-- Columns:
--   path: the binary
--   library: what was recognised in it
--   state: attached, absent, unresolved or failed
--   processes: how many processes asked for it
--   detail: places attached, or the reason why not
-- Absence:
--   no rows when nothing was searched
SELECT
  path,
  library,
  state,
  count(DISTINCT struct(pid, process_start_ts)) AS processes,
  min(detail) AS detail
FROM probes
GROUP BY path, library, state
ORDER BY path, library, state
