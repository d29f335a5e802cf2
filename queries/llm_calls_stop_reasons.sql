-- Why did models stop, and how often?
--
-- Columns:
--   call_class: main, subagent, side, compaction, warmup or count_tokens
--   stop_reason: the provider's own word, such as end_turn, tool_use,
--     max_tokens or refusal
--   error_type: the provider's error type
--   completeness_reason: why calls were not seen whole
--   calls: calls that ended so
--   output_tokens: their output tokens
--   first_call_id: the first of them
-- Absence:
--   stop_reason is NULL when the call failed or was cut, the others when there
--   was no error or the call was seen whole
SELECT
  call_class,
  stop_reason,
  error_type,
  completeness_reason,
  count(*) AS calls,
  sum(output_tokens) AS output_tokens,
  min(call_id) AS first_call_id
FROM llm_calls
GROUP BY call_class, stop_reason, error_type, completeness_reason
ORDER BY
  calls DESC,
  first_call_id
