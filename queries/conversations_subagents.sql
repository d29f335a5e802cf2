-- What did each sub-agent use, how long did it take and how much did it return?
--
-- Columns:
--   conversation_id: the sub-agent's conversation
--   parent_conversation_id: the conversation that started it
--   parent_tool_call_id: use of a tool in the parent that it is the work of
--   tool_name: name of that tool
--   agent_id: the program's own id of the sub-agent
--   prompt: begin of what it was told
--   duration_ms: first to last byte, milliseconds
--   calls: number of calls, attempts included
--   tool_calls: uses of tools
--   total_input_tokens: input tokens of its calls, cached or not
--   output_tokens: output tokens of its calls
--   cost_usd: what its calls cost, US dollars
--   result_bytes: size of what the parent got back, bytes
--   carried_bytes: result_bytes times the parent's calls that sent it, bytes
-- Absence:
--   tool columns and sizes are NULL when it is not known which use of a tool it
--   is the work of; token counts when no call reported any
WITH first_turns AS (
  SELECT
    conversation_id,
    prompt
  FROM turns
  WHERE turn = 1
),
uses AS (
  SELECT
    conversation_id,
    sum(tool_calls) AS tool_calls
  FROM turns
  GROUP BY conversation_id
)
SELECT
  c.conversation_id,
  c.parent_conversation_id,
  c.parent_tool_call_id,
  max(t.name) AS tool_name,
  c.agent_id,
  f.prompt,
  c.duration_ms,
  c.calls,
  coalesce(u.tool_calls, 0) AS tool_calls,
  CASE
    WHEN coalesce(c.input_tokens, c.cache_read_tokens, c.cache_creation_tokens)
      IS NOT NULL
      THEN coalesce(c.input_tokens, 0) + coalesce(c.cache_read_tokens, 0)
        + coalesce(c.cache_creation_tokens, 0)
  END AS total_input_tokens,
  c.output_tokens,
  c.cost_usd,
  max(t.result_bytes) AS result_bytes,
  max(t.carried_bytes) AS carried_bytes
FROM conversations AS c
LEFT JOIN first_turns AS f ON f.conversation_id = c.conversation_id
LEFT JOIN uses AS u ON u.conversation_id = c.conversation_id
LEFT JOIN tool_calls AS t
  ON t.conversation_id = c.parent_conversation_id
  AND t.tool_call_id = c.parent_tool_call_id
WHERE c.class = 'subagent'
GROUP BY
  c.conversation_id,
  c.parent_conversation_id,
  c.parent_tool_call_id,
  c.agent_id,
  f.prompt,
  c.duration_ms,
  c.calls,
  u.tool_calls,
  c.input_tokens,
  c.cache_read_tokens,
  c.cache_creation_tokens,
  c.output_tokens,
  c.cost_usd
ORDER BY c.conversation_id
