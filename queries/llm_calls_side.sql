-- What do the calls beside the conversations use: titles, classifiers, probes?
--
-- Columns:
--   call_class: side, warmup or count_tokens
--   model: model that answered, or the one asked for when none did
--   calls: calls of this kind
--   failed: calls with an error
--   total_input_tokens: input tokens, cached or not
--   output_tokens: all billed output tokens
--   cost_usd: what they cost, US dollars
--   total_ms: time that they took, milliseconds
--   first_call_id: the first of them
-- Absence:
--   token counts are NULL when no call reported any; counting tokens has none
SELECT
  call_class,
  coalesce(model, request_model) AS model,
  count(*) AS calls,
  sum(CASE WHEN error_type IS NOT NULL OR status >= 400 THEN 1 ELSE 0 END)
    AS failed,
  sum(total_input_tokens) AS total_input_tokens,
  sum(output_tokens) AS output_tokens,
  sum(cost_usd) AS cost_usd,
  sum(duration_ms) AS total_ms,
  min(call_id) AS first_call_id
FROM llm_calls
WHERE call_class IN ('side', 'warmup', 'count_tokens')
GROUP BY 1, 2
ORDER BY calls DESC, first_call_id
