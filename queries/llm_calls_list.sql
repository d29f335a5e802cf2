-- What calls to models were made, how long did each take and what did it use?
--
-- Parameters:
--   model text = NULL: only calls answered by this model; NULL means all
-- Columns:
--   call_id: number of the call
--   start_ts: first byte of the request
--   pid: process that made the call
--   agent: program that made the call, as its User-Agent field names it
--   host: host that was asked
--   model: model that answered, or the one asked for when none did
--   status: HTTP status code
--   ttft_ms: end of the request to first generated content, milliseconds
--   duration_ms: first byte of the request to last byte of the response,
--     milliseconds
--   max_gap_ms: longest wait between two arrivals of response bytes,
--     milliseconds
--   input_tokens: uncached input tokens
--   cache_read_tokens: input tokens read from the provider's cache
--   cache_creation_tokens: input tokens written to the provider's cache
--   output_tokens: all billed output tokens
--   reasoning_tokens: the part of output_tokens that was reasoning
--   usage_state: reported, partial (counts seen before a stream ended too
--     early) or none
--   stop_reason: why the model stopped, in the provider's own word
--   error_type: the provider's error type
--   complete: whether request and response were seen whole
--   completeness_reason: why the call is not complete
--   lost_bytes: bytes of the call known to be missing
-- Absence:
--   ttft_ms is NULL when no generated content was seen, duration_ms when the
--   end of the response was not seen, status when there was no response, token
--   counts when the provider reported none
SELECT
  call_id,
  start_ts,
  pid,
  agent,
  host,
  coalesce(model, request_model) AS model,
  status,
  ttft_ms,
  duration_ms,
  max_gap_ms,
  input_tokens,
  cache_read_tokens,
  cache_creation_tokens,
  output_tokens,
  reasoning_tokens,
  usage_state,
  stop_reason,
  error_type,
  complete,
  completeness_reason,
  lost_bytes
FROM llm_calls
WHERE $model IS NULL OR coalesce(model, request_model) = $model
ORDER BY start_ts, call_id
