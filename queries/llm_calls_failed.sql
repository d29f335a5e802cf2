-- Which calls to a model failed or were not seen to their end, and why?
--
-- Columns:
--   call_id: number of the call
--   start_ts: first byte of the request
--   host: host that was asked
--   model: model that answered, or the one asked for when none did
--   status: HTTP status code
--   error_type: the provider's error type, also from the midst of a stream
--   completeness_reason: why the call is not complete
--   duration_ms: first byte of the request to last byte of the response,
--     milliseconds
--   lost_bytes: bytes of the call known to be missing
--   request_id: the provider's id of the request, for its support
-- Absence:
--   no rows: every call was answered without error and seen whole; status is
--   NULL when there was no response, completeness_reason when all was seen
SELECT
  call_id,
  start_ts,
  host,
  coalesce(model, request_model) AS model,
  status,
  error_type,
  completeness_reason,
  duration_ms,
  lost_bytes,
  request_id
FROM llm_calls
WHERE status >= 400 OR error_type IS NOT NULL OR NOT complete
ORDER BY start_ts, call_id
