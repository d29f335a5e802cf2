-- What does the trace say of its recording?
--
-- Columns:
--   key: name of the fact
--   value: the fact
-- Absence:
--   keys that are known only at its end are missing when the recorder did not
--   finish; agentsight.columns is left out, since table docs says it better
SELECT
  key,
  value
FROM trace_info
WHERE key <> 'agentsight.columns'
ORDER BY key
