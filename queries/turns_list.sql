-- What did each prompt of the user lead to, where did its time go and what did
-- it use?
--
-- Parameters:
--   conversation_id int = NULL: only this conversation; NULL means all
-- Columns:
--   conversation_id: number of the conversation
--   class: main or subagent
--   turn: number of the turn in it
--   start_ts: first byte of its first request
--   prompt: begin of the user's words
--   duration_ms: start_ts to the last byte of its last response, milliseconds
--   upload_ms: requests going out, milliseconds
--   wait_ms: end of a request to the first content generated, milliseconds
--   thinking_ms: reasoning arriving, milliseconds
--   stream_ms: text and arguments of tools arriving, milliseconds
--   stall_ms: pauses of a second and more in responses, milliseconds
--   tool_ms: no call running and results of tools missing, milliseconds
--   user_ms: neither a call nor a tool was running, milliseconds
--   retry_ms: attempts that came to nothing, and pauses after them,
--     milliseconds
--   calls: calls, attempts included
--   retries: calls that tried a request once more
--   tool_calls: uses of tools
--   cache_breaks: calls that could not use the provider's cache as left to them
--   stop_reason: why the model stopped at last
--   input_tokens: uncached input tokens of its calls
--   cache_read_tokens: input tokens of its calls read from the cache
--   cache_creation_tokens: input tokens of its calls written to the cache
--   output_tokens: output tokens of its calls
--   uncounted_calls: calls without final counts; the sums are at least
--   cost_usd: what its calls cost, US dollars
--   unpriced_calls: calls without a cost; not in the sum
-- Absence:
--   duration_ms is NULL while a call was open at the end of the recording (the
--   parts of the time go on to the last that is known), token counts when no
--   call reported any, prompt when it was not captured
WITH breaks AS (
  SELECT
    c.conversation_id,
    c.turn,
    count(*) AS cache_breaks
  FROM cache_breaks AS b
  JOIN llm_calls AS c ON c.call_id = b.call_id
  GROUP BY c.conversation_id, c.turn
)
SELECT
  t.conversation_id,
  c.class,
  t.turn,
  t.start_ts,
  t.prompt,
  t.duration_ms,
  t.upload_ms,
  t.wait_ms,
  t.thinking_ms,
  t.stream_ms,
  t.stall_ms,
  t.tool_ms,
  t.user_ms,
  t.retry_ms,
  t.calls,
  t.retries,
  t.tool_calls,
  coalesce(b.cache_breaks, 0) AS cache_breaks,
  t.stop_reason,
  t.input_tokens,
  t.cache_read_tokens,
  t.cache_creation_tokens,
  t.output_tokens,
  t.uncounted_calls,
  t.cost_usd,
  t.unpriced_calls
FROM turns AS t
JOIN conversations AS c ON c.conversation_id = t.conversation_id
LEFT JOIN breaks AS b
  ON b.conversation_id = t.conversation_id AND b.turn = t.turn
WHERE $conversation_id IS NULL OR t.conversation_id = $conversation_id
ORDER BY t.start_ts, t.conversation_id, t.turn
