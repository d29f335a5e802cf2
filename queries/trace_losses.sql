-- What is missing from the trace, and why?
--
-- Columns:
--   event_class: kind of the events that were lost
--   cause: why, as the recorder counted; gap is a hole seen in a stream
--   losses: how many losses
--   lost_events: how many events
--   lost_bytes: payload bytes; do not add gaps to the other causes
--   first_ts: start of the first loss
--   last_ts: end of the last loss
-- Absence:
--   no rows when nothing was lost; lost_events is NULL for gaps
SELECT
  event_class,
  cause,
  count(*) AS losses,
  sum(lost_events) AS lost_events,
  sum(lost_bytes) AS lost_bytes,
  min(first_ts) AS first_ts,
  max(last_ts) AS last_ts
FROM losses
GROUP BY event_class, cause
ORDER BY event_class, cause
