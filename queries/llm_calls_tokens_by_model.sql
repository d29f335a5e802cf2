-- How many tokens did each model read and write, and how much came from cache?
--
-- Columns:
--   model: model that answered, or the one asked for when none did
--   calls: requests to it
--   input_tokens: uncached input tokens
--   cache_read_tokens: input tokens read from the provider's cache
--   cache_creation_tokens: input tokens written to the provider's cache
--   total_input_tokens: sum of the three
--   cache_hit_percent: cache_read_tokens of total_input_tokens, percent
--   output_tokens: all billed output tokens
--   reasoning_tokens: the part of output_tokens that was reasoning
--   reported_calls: calls whose final token counts were seen
--   partial_calls: calls of which only counts before the end were seen; the
--     sums hold these counts, so they are too low
--   unreported_calls: calls without any token counts; not in the sums
-- Absence:
--   model is NULL for calls that name none, token sums are NULL when no call
--   reported such tokens
SELECT
  coalesce(model, request_model) AS model,
  count(*) AS calls,
  sum(input_tokens) AS input_tokens,
  sum(cache_read_tokens) AS cache_read_tokens,
  sum(cache_creation_tokens) AS cache_creation_tokens,
  sum(total_input_tokens) AS total_input_tokens,
  100.0 * sum(cache_read_tokens) / nullif(sum(total_input_tokens), 0)
    AS cache_hit_percent,
  sum(output_tokens) AS output_tokens,
  sum(reasoning_tokens) AS reasoning_tokens,
  sum(CASE WHEN usage_state = 'reported' THEN 1 ELSE 0 END) AS reported_calls,
  sum(CASE WHEN usage_state = 'partial' THEN 1 ELSE 0 END) AS partial_calls,
  sum(CASE WHEN usage_state = 'none' THEN 1 ELSE 0 END) AS unreported_calls
FROM llm_calls
GROUP BY 1
ORDER BY
  total_input_tokens DESC NULLS LAST,
  calls DESC,
  model NULLS LAST
