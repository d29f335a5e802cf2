-- Which results of tools fill the context?
--
-- Parameters:
--   min_bytes int = 0: only results at least this large
-- Columns:
--   tool_call_id: id of the use
--   call_id: call that asked for it
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   name: name of the tool
--   arguments: begin of its arguments, as JSON
--   result_bytes: size of the result, bytes
--   carried_calls: calls that sent it
--   carried_bytes: result_bytes times carried_calls, bytes
--   carried_percent: carried_bytes of those of all results, percent
-- Absence:
--   uses without a result are not in it
SELECT
  tool_call_id,
  call_id,
  conversation_id,
  turn,
  name,
  substr(arguments, 1, 200) AS arguments,
  result_bytes,
  carried_calls,
  carried_bytes,
  100.0 * carried_bytes / nullif(sum(carried_bytes) OVER (), 0)
    AS carried_percent
FROM tool_calls
WHERE result_bytes >= $min_bytes
ORDER BY carried_bytes DESC NULLS LAST, call_id, tool_call_id, name
