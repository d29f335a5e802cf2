-- What does the trace say about itself?
--
-- Columns:
--   key: name of the fact
--   value: what it says
-- Absence:
--   agentsight.stop_ts and agentsight.stop_reason are missing when the recorder
--   did not finish
SELECT
  key,
  value
FROM trace_info
WHERE key NOT LIKE 'counted.events.%'
  AND key NOT IN (
    'agentsight.clock_anchors', 'agentsight.columns', 'agentsight.kinds',
    'agentsight.losses', 'agentsight.probes', 'agentsight.binaries',
    'agentsight.ledger'
  )
ORDER BY key
