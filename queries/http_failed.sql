-- Which HTTP requests failed or were not seen to their end?
--
-- Columns:
--   http_id: number of the exchange
--   start_ts: first byte of the request
--   pid: process whose connection it is
--   role: client if that process made the request, server if it answered it
--   method: request method
--   host: host that was asked
--   path: request target
--   status: HTTP status code
--   complete: whether request and response were seen whole
--   completeness_reason: why not
--   lost_bytes: bytes of the exchange known to be missing
-- Absence:
--   no rows: every request was answered with a status below 400 and seen
--   whole; status is NULL when there was no response
SELECT
  http_id,
  start_ts,
  pid,
  role,
  method,
  host,
  path,
  status,
  complete,
  completeness_reason,
  lost_bytes
FROM http
WHERE status >= 400 OR NOT complete
ORDER BY start_ts, http_id
