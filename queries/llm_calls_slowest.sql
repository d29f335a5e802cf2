-- Which calls to a model took longest, and where did the time go?
--
-- Parameters:
--   min_ms float = 0: only calls at least this long, milliseconds
-- Columns:
--   call_id: number of the call
--   start_ts: first byte of the request
--   model: model that answered, or the one asked for when none did
--   duration_ms: first byte of the request to last byte of the response,
--     milliseconds
--   upload_ms: first to last byte of the request, milliseconds
--   wait_ms: last byte of the request to first byte of the response,
--     milliseconds
--   ttft_ms: last byte of the request to first generated content, milliseconds
--   stream_ms: first generated content to last byte of the response,
--     milliseconds
--   max_gap_ms: longest wait between two arrivals of response bytes,
--     milliseconds
--   output_tokens: all billed output tokens
--   output_tokens_per_second: output tokens by stream_ms
--   status: HTTP status code
-- Absence:
--   a time is NULL when its end was not seen; such a call comes last;
--   output_tokens_per_second is NULL when the response was not streamed or its
--   final token counts were not seen
SELECT
  call_id,
  start_ts,
  coalesce(model, request_model) AS model,
  duration_ms,
  CAST(CAST(request_end_ts AS BIGINT) - CAST(start_ts AS BIGINT) AS DOUBLE)
    / 1e6 AS upload_ms,
  CAST(CAST(first_byte_ts AS BIGINT) - CAST(request_end_ts AS BIGINT) AS DOUBLE)
    / 1e6 AS wait_ms,
  ttft_ms,
  CAST(CAST(end_ts AS BIGINT) - CAST(first_token_ts AS BIGINT) AS DOUBLE)
    / 1e6 AS stream_ms,
  max_gap_ms,
  output_tokens,
  CASE WHEN usage_state = 'reported' THEN output_tokens END
    / nullif(
      CAST(CAST(end_ts AS BIGINT) - CAST(first_token_ts AS BIGINT) AS DOUBLE)
        / 1e9,
      0.0
    ) AS output_tokens_per_second,
  status
FROM llm_calls
WHERE duration_ms IS NULL OR duration_ms >= $min_ms
ORDER BY duration_ms DESC NULLS LAST, call_id
