-- Which agents called which models, and how often?
--
-- Columns:
--   agent: program that made the calls
--   model: model that answered, or the one asked for when none did
--   calls: number of calls
--   incomplete_calls: those not seen whole
--   first_ts: start of the first
--   last_ts: start of the last
--   total_input_tokens: input tokens, cached ones included
--   output_tokens: output tokens
-- Absence:
--   token sums are NULL when no call reported any
SELECT
  agent,
  coalesce(model, request_model) AS model,
  count(*) AS calls,
  count(*) FILTER (WHERE NOT complete) AS incomplete_calls,
  min(start_ts) AS first_ts,
  max(start_ts) AS last_ts,
  sum(total_input_tokens) AS total_input_tokens,
  sum(output_tokens) AS output_tokens
FROM llm_calls
GROUP BY agent, coalesce(model, request_model)
ORDER BY first_ts, agent, model
