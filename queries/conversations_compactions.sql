-- When was a history replaced by a summary, and how much smaller did it get?
--
-- Columns:
--   conversation_id: number of the conversation
--   call_id: call that asked for the summary
--   start_ts: first byte of its request
--   duration_ms: first byte of the request to last byte of the response,
--     milliseconds
--   total_input_tokens: input tokens of that call: about what the history was
--   output_tokens: output tokens of that call: about what the summary is
--   next_call_id: next call of the conversation
--   next_input_tokens: input tokens of that one, cached or not
-- Absence:
--   next_ columns are NULL when the conversation did not go on, token counts
--   when the provider reported none; summaries that a provider made by itself
--   within a call are counted in conversations.compactions only
WITH ordered AS (
  SELECT
    conversation_id,
    call_id,
    call_class,
    start_ts,
    duration_ms,
    total_input_tokens,
    output_tokens,
    lead(call_id) OVER later AS next_call_id,
    lead(total_input_tokens) OVER later AS next_input_tokens
  FROM llm_calls
  WHERE call_class IN ('main', 'subagent', 'compaction')
  WINDOW later AS (PARTITION BY conversation_id ORDER BY start_ts, call_id)
)
SELECT
  conversation_id,
  call_id,
  start_ts,
  duration_ms,
  total_input_tokens,
  output_tokens,
  next_call_id,
  next_input_tokens
FROM ordered
WHERE call_class = 'compaction'
ORDER BY start_ts, call_id
