-- Which servers of tools were used how much, how slow are they and how often do
-- they fail?
--
-- Columns:
--   server: the server's name for itself
--   transport: stdio or http
--   method: JSON-RPC method
--   target: tool, prompt or resource that was asked for
--   calls: requests and notifications
--   failed_calls: those with a JSON-RPC error, an HTTP error or a tool's error
--   unanswered_calls: requests without an answer
--   cancelled_calls: those taken back
--   avg_ms: mean time to the answer, milliseconds
--   max_ms: longest time to the answer, milliseconds
--   request_bytes: size of all requests, bytes
--   response_bytes: size of all answers, bytes
-- Absence:
--   server is NULL when its greeting was not seen, target when the method names
--   none, times when nothing was answered
SELECT
  server,
  transport,
  method,
  target,
  count(*) AS calls,
  sum(CASE
    WHEN error_code IS NOT NULL OR error_message IS NOT NULL OR is_error THEN 1
    ELSE 0
  END) AS failed_calls,
  sum(CASE WHEN request_id IS NOT NULL AND end_ts IS NULL THEN 1 ELSE 0 END)
    AS unanswered_calls,
  sum(CASE WHEN cancelled THEN 1 ELSE 0 END) AS cancelled_calls,
  avg(duration_ms) AS avg_ms,
  max(duration_ms) AS max_ms,
  sum(request_bytes) AS request_bytes,
  sum(response_bytes) AS response_bytes
FROM mcp_calls
GROUP BY 1, 2, 3, 4
ORDER BY
  calls DESC,
  server NULLS LAST,
  transport,
  method,
  target NULLS LAST
