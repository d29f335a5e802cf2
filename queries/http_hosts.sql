-- Which hosts were contacted, by which programs, and how much was sent?
--
-- Columns:
--   host: host as the requests name it
--   comm: name of the process that asked
--   exchanges: HTTP exchanges
--   llm_calls: exchanges that were calls to a model
--   failed_exchanges: exchanges with a status from 400 on
--   request_body_bytes: sizes of request bodies after decoding, bytes
--   response_body_bytes: sizes of response bodies after decoding, bytes
--   first_ts: start of the first exchange
--   last_ts: start of the last exchange
-- Absence:
--   no rows: no plaintext HTTP was seen, which does not mean that nothing was
--   sent; host is NULL when a request's head was not captured
SELECT
  h.host,
  p.comm,
  count(*) AS exchanges,
  count(c.call_id) AS llm_calls,
  sum(CASE WHEN h.status >= 400 THEN 1 ELSE 0 END) AS failed_exchanges,
  sum(h.request_body_bytes) AS request_body_bytes,
  sum(h.response_body_bytes) AS response_body_bytes,
  min(h.start_ts) AS first_ts,
  max(h.start_ts) AS last_ts
FROM http AS h
LEFT JOIN processes AS p
  ON p.pid = h.pid AND p.start_ts = h.process_start_ts
LEFT JOIN llm_calls AS c ON c.http_id = h.http_id
WHERE h.role = 'client'
GROUP BY h.host, p.comm
ORDER BY exchanges DESC, h.host NULLS LAST, p.comm NULLS LAST
