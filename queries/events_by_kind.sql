-- How many events of each kind does the trace hold, and from when to when?
--
-- Columns:
--   kind: kind of event
--   events: how many
--   first_ts: the first of them
--   last_ts: the last of them
--   data_bytes: TLS plaintext that was moved, lost bytes included, bytes
--   lost_bytes: bytes that could not be captured
-- Absence:
--   data_bytes and lost_bytes are NULL for kinds that carry no payload
SELECT
  kind,
  count(*) AS events,
  min(ts) AS first_ts,
  max(ts) AS last_ts,
  sum(data_bytes) AS data_bytes,
  sum(lost_bytes) AS lost_bytes
FROM events
GROUP BY kind
ORDER BY kind
