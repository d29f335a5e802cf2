-- In which binaries was plaintext looked for, and with what success?
--
-- Columns:
--   state: attached, absent (no known TLS library), unresolved (a TLS library
--     whose functions were not found for certain) or failed (the kernel
--     refused)
--   path: the binary
--   library: TLS library recognised in it
--   detail: functions attached, or the reason why not
--   probes: how often it was looked at
--   first_ts: when first
-- Absence:
--   no rows: no binary was looked at, so no plaintext can be in the trace;
--   library is NULL when none was recognised
SELECT
  state,
  path,
  library,
  detail,
  count(*) AS probes,
  min(ts) AS first_ts
FROM probes
GROUP BY state, path, library, detail
ORDER BY state DESC, path, library NULLS LAST, detail
