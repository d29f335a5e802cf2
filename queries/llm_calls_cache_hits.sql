-- How much of each call's input came from the cache, and where did it miss?
--
-- Columns:
--   call_id: number of the call
--   start_ts: first byte of the request
--   pid: process that made the call
--   model: model that answered, or the one asked for when none did
--   total_input_tokens: input, cached or not
--   cache_read_tokens: input tokens read from the provider's cache
--   cache_creation_tokens: input tokens written to the provider's cache
--   cache_hit_percent: cache_read_tokens of total_input_tokens, percent
--   previous_input_tokens: total_input_tokens of the call before it by the same
--     process to the same model; a call that continues it could have read
--     about as many from the cache
--   since_previous_ms: time since the start of that call, milliseconds; caches
--     forget
-- Absence:
--   token counts are NULL when the provider reported none, the previous_
--   columns are NULL for a first call
WITH calls AS (
  SELECT
    call_id,
    start_ts,
    pid,
    coalesce(model, request_model) AS model,
    total_input_tokens,
    cache_read_tokens,
    cache_creation_tokens,
    lag(total_input_tokens) OVER earlier AS previous_input_tokens,
    lag(start_ts) OVER earlier AS previous_start_ts
  FROM llm_calls
  WHERE usage_state <> 'none'
  WINDOW earlier AS (
    PARTITION BY pid, process_start_ts, coalesce(model, request_model)
    ORDER BY start_ts, call_id
  )
)
SELECT
  call_id,
  start_ts,
  pid,
  model,
  total_input_tokens,
  cache_read_tokens,
  cache_creation_tokens,
  100.0 * cache_read_tokens / nullif(total_input_tokens, 0)
    AS cache_hit_percent,
  previous_input_tokens,
  CAST(CAST(start_ts AS BIGINT) - CAST(previous_start_ts AS BIGINT) AS DOUBLE)
    / 1e6 AS since_previous_ms
FROM calls
ORDER BY start_ts, call_id
