-- What does the trace say of its recording?
--
-- Columns:
--   key: name of the fact
--   value: the fact
-- Absence:
--   keys that are known only at its end are missing when the recorder did not
--   finish
SELECT
  key,
  value
FROM trace_info
ORDER BY key
