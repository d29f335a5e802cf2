-- What conversations were held, by whom, and what did each use?
--
-- Columns:
--   conversation_id: number of the conversation
--   parent_conversation_id: conversation that started it or that it stands
--     beside
--   parent_tool_call_id: use of a tool in the parent that it is the work of
--   class: main, subagent or side (a title, a classifier, a probe)
--   agent: program that made its first call
--   pid: process that made its first call
--   session_id: the agent's own id of its session
--   agent_id: the program's own id of the agent or sub-agent
--   start_ts: first byte of its first request
--   duration_ms: first to last byte, times between turns included, milliseconds
--   turns: number of turns
--   calls: number of calls, attempts included
--   compactions: times its history was replaced by a summary
--   missing_begin: why its begin is missing
--   total_input_tokens: input tokens of its calls, cached or not
--   cache_read_tokens: the part of them that was read from the cache
--   output_tokens: output tokens of its calls
--   uncounted_calls: calls without final counts; the sums are at least
--   cost_usd: what its calls cost, US dollars
--   unpriced_calls: calls without a cost; not in the sum
-- Absence:
--   parents are NULL when there is none, ids when the calls do not name them,
--   token counts when no call reported any, duration_ms when a call was open
--   when the recording ended
SELECT
  conversation_id,
  parent_conversation_id,
  parent_tool_call_id,
  class,
  agent,
  pid,
  session_id,
  agent_id,
  start_ts,
  duration_ms,
  turns,
  calls,
  compactions,
  missing_begin,
  CASE
    WHEN coalesce(input_tokens, cache_read_tokens, cache_creation_tokens)
      IS NOT NULL
      THEN coalesce(input_tokens, 0) + coalesce(cache_read_tokens, 0)
        + coalesce(cache_creation_tokens, 0)
  END AS total_input_tokens,
  cache_read_tokens,
  output_tokens,
  uncounted_calls,
  cost_usd,
  unpriced_calls
FROM conversations
ORDER BY conversation_id
