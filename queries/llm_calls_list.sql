-- What calls to models were made, how long did each take and what did it use?
--
-- Parameters:
--   model text = NULL: only calls answered by this model; NULL means all
-- Columns:
--   call_id: number of the call
--   start_ts: first byte of the request
--   agent: program that made the call
--   model: model that answered, or the one asked for when none did
--   status: HTTP status code
--   duration_ms: first byte of the request to last byte of the response, milliseconds
--   ttft_ms: end of the request to first generated content, milliseconds
--   input_tokens: uncached input tokens
--   cache_read_tokens: input tokens read from the provider's cache
--   cache_creation_tokens: input tokens written to the provider's cache
--   output_tokens: all billed output tokens
--   stop_reason: why the model stopped, in the provider's own word
--   complete: whether request and response were seen whole
-- Absence:
--   duration_ms is NULL when the end of the response was not seen, token counts
--   are NULL when the provider reported none
SELECT
  call_id,
  start_ts,
  agent,
  coalesce(model, request_model) AS model,
  status,
  duration_ms,
  ttft_ms,
  input_tokens,
  cache_read_tokens,
  cache_creation_tokens,
  output_tokens,
  stop_reason,
  complete
FROM llm_calls
WHERE $model IS NULL OR coalesce(model, request_model) = $model
ORDER BY start_ts, call_id
