-- What did the recorder see and not keep, and why?
--
-- Columns:
--   event_class: kind of the lost events
--   cause: why they were lost
--   lost_events: how many
--   lost_bytes: payload that was lost with them, bytes
--   connections: connections known to be touched
--   first_ts: start of the time range of the first loss
--   last_ts: end of the time range of the last loss
-- Absence:
--   no rows: the recorder counted no loss
SELECT
  event_class,
  cause,
  sum(lost_events) AS lost_events,
  sum(lost_bytes) AS lost_bytes,
  count(DISTINCT conn_id) AS connections,
  min(first_ts) AS first_ts,
  max(last_ts) AS last_ts
FROM losses
WHERE cause <> 'gap'
GROUP BY event_class, cause
ORDER BY lost_events DESC, event_class, cause
