-- Which calls to a model used the most tokens?
--
-- Columns:
--   call_id: number of the call
--   start_ts: first byte of the request
--   model: model that answered, or the one asked for when none did
--   all_tokens: total_input_tokens and output_tokens
--   uncached_tokens: all_tokens without those read from the cache, which cost
--     the least
--   total_input_tokens: input, cached or not
--   input_tokens: uncached input tokens
--   cache_read_tokens: input tokens read from the provider's cache
--   cache_creation_tokens: input tokens written to the provider's cache
--   output_tokens: all billed output tokens
--   usage_state: reported, partial (too low) or none
--   request_body_bytes: size of the request body after decoding, bytes
-- Absence:
--   token counts are NULL when the provider reported none
SELECT
  call_id,
  start_ts,
  coalesce(model, request_model) AS model,
  CASE
    WHEN usage_state <> 'none'
      THEN coalesce(total_input_tokens, 0) + coalesce(output_tokens, 0)
  END AS all_tokens,
  CASE
    WHEN usage_state <> 'none'
      THEN coalesce(total_input_tokens, 0) - coalesce(cache_read_tokens, 0)
        + coalesce(output_tokens, 0)
  END AS uncached_tokens,
  total_input_tokens,
  input_tokens,
  cache_read_tokens,
  cache_creation_tokens,
  output_tokens,
  usage_state,
  request_body_bytes
FROM llm_calls
ORDER BY all_tokens DESC NULLS LAST, call_id
