-- Which turns took longest, and on what?
--
-- Parameters:
--   min_ms float = 0: only turns at least this long, milliseconds
-- Columns:
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   start_ts: first byte of its first request
--   prompt: begin of the user's words
--   duration_ms: start_ts to the last byte of its last response, milliseconds
--   model_percent: waiting for and receiving answers (upload, wait, thinking,
--     stream), percent of the duration
--   stall_percent: pauses in answers, percent of the duration
--   tool_percent: tools, percent of the duration
--   retry_percent: attempts that came to nothing, percent of the duration
--   user_percent: the rest, percent of the duration
--   calls: calls, attempts included
--   tool_calls: uses of tools
-- Absence:
--   turns with a call still open when the recording ended are not in it
SELECT
  conversation_id,
  turn,
  start_ts,
  prompt,
  duration_ms,
  100.0 * (upload_ms + wait_ms + thinking_ms + stream_ms)
    / nullif(duration_ms, 0.0) AS model_percent,
  100.0 * stall_ms / nullif(duration_ms, 0.0) AS stall_percent,
  100.0 * tool_ms / nullif(duration_ms, 0.0) AS tool_percent,
  100.0 * retry_ms / nullif(duration_ms, 0.0) AS retry_percent,
  100.0 * user_ms / nullif(duration_ms, 0.0) AS user_percent,
  calls,
  tool_calls
FROM turns
WHERE duration_ms IS NOT NULL AND duration_ms >= $min_ms
ORDER BY duration_ms DESC, conversation_id, turn
