-- Which tools were used, how long did they take, how often did they fail, and
-- whose results fill the context?
--
-- Columns:
--   name: name of the tool
--   tool_calls: uses
--   failed: uses whose result says that they failed
--   unanswered: uses without a result in the trace
--   server_side: uses that the provider ran itself
--   total_ms: time from arguments to the request with the result, all uses,
--     milliseconds; uses at the same time each count
--   max_ms: the longest of them, milliseconds
--   result_bytes: size of all results, bytes
--   max_result_bytes: size of the largest, bytes
--   carried_bytes: size of each result times the calls that sent it, bytes:
--     what the tool takes of all contexts
--   carried_percent: carried_bytes of those of all tools, percent
-- Absence:
--   times and sizes are NULL when no use has a result; name when it was not
--   captured
SELECT
  name,
  count(*) AS tool_calls,
  sum(CASE WHEN is_error THEN 1 ELSE 0 END) AS failed,
  sum(CASE WHEN result_call_id IS NULL THEN 1 ELSE 0 END) AS unanswered,
  sum(CASE WHEN is_server_side THEN 1 ELSE 0 END) AS server_side,
  sum(duration_ms) AS total_ms,
  max(duration_ms) AS max_ms,
  sum(result_bytes) AS result_bytes,
  max(result_bytes) AS max_result_bytes,
  sum(carried_bytes) AS carried_bytes,
  100.0 * sum(carried_bytes) / nullif(sum(sum(carried_bytes)) OVER (), 0)
    AS carried_percent
FROM tool_calls
GROUP BY name
ORDER BY carried_bytes DESC NULLS LAST, tool_calls DESC, name NULLS LAST
