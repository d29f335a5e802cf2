-- Which uses of tools were repeated with the same arguments, and did the result
-- change?
--
-- Parameters:
--   min_calls int = 2: only those made at least so often in a conversation
-- Columns:
--   conversation_id: number of the conversation
--   name: name of the tool
--   arguments: begin of the arguments, as JSON
--   tool_calls: uses
--   turns: turns in which they were made
--   different_results: how many different results came
--   failed: uses whose result says that they failed
--   total_ms: time that they took, milliseconds
--   result_bytes: size of all results, bytes
--   carried_bytes: what the results take of all contexts, bytes
--   first_ts: when the first was asked for
--   last_ts: when the last was asked for
-- Absence:
--   no row when nothing was repeated; sizes and times are NULL when no use has
--   a result
SELECT
  conversation_id,
  name,
  substr(arguments, 1, 200) AS arguments,
  count(*) AS tool_calls,
  count(DISTINCT turn) AS turns,
  count(DISTINCT result) AS different_results,
  sum(CASE WHEN is_error THEN 1 ELSE 0 END) AS failed,
  sum(duration_ms) AS total_ms,
  sum(result_bytes) AS result_bytes,
  sum(carried_bytes) AS carried_bytes,
  min(start_ts) AS first_ts,
  max(start_ts) AS last_ts
FROM tool_calls
WHERE arguments IS NOT NULL
GROUP BY conversation_id, name, tool_calls.arguments
HAVING count(*) >= $min_calls
ORDER BY tool_calls DESC, first_ts, conversation_id, name, arguments
