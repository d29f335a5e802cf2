-- Which uses of tools failed or came to nothing?
--
-- Columns:
--   tool_call_id: id of the use
--   call_id: call that asked for it
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   name: name of the tool
--   arguments: begin of its arguments, as JSON
--   start_ts: last byte of the arguments
--   is_error: whether the result says that it failed
--   result: begin of the result
-- Absence:
--   is_error and result are NULL when no result was seen: the recording or the
--   conversation ended first, or the user took the turn back
SELECT
  tool_call_id,
  call_id,
  conversation_id,
  turn,
  name,
  substr(arguments, 1, 200) AS arguments,
  start_ts,
  is_error,
  substr(result, 1, 200) AS result
FROM tool_calls
WHERE is_error OR result_call_id IS NULL
ORDER BY start_ts, call_id, tool_call_id
