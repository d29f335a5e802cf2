-- Which uses of tools took longest?
--
-- Parameters:
--   name text = NULL: only this tool; NULL means all
-- Columns:
--   tool_call_id: id of the use
--   call_id: call that asked for it
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   name: name of the tool
--   arguments: begin of its arguments, as JSON
--   start_ts: last byte of the arguments
--   duration_ms: start_ts to the request with the result, milliseconds; waiting
--     for permission is in it
--   is_error: whether the result says that it failed
--   result_bytes: size of the result, bytes
--   is_server_side: whether the provider ran it
-- Absence:
--   duration_ms and result_bytes are NULL when no result was seen; such a use
--   comes last
SELECT
  tool_call_id,
  call_id,
  conversation_id,
  turn,
  name,
  substr(arguments, 1, 200) AS arguments,
  start_ts,
  duration_ms,
  is_error,
  result_bytes,
  is_server_side
FROM tool_calls
WHERE $name IS NULL OR name = $name
ORDER BY duration_ms DESC NULLS LAST, start_ts, call_id, tool_call_id
