-- Which requests were tried again, why, how long was waited, and was the
-- provider's wish to wait kept?
--
-- Columns:
--   call_id: the new attempt
--   retry_of: the attempt before it
--   attempt: number of the attempt, 2 for the first retry
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   failed_status: HTTP status of the attempt before
--   failed_error_type: the provider's error type of the attempt before
--   failed_reason: why the attempt before is not complete
--   failed_ms: how long the attempt before took, milliseconds
--   asked_ms: how long the provider asked to wait, milliseconds
--   waited_ms: end of the attempt before to begin of this one, milliseconds
--   kept_wait: whether waited_ms is at least asked_ms
--   status: HTTP status of the new attempt
-- Absence:
--   asked_ms and kept_wait are NULL when the provider asked for nothing,
--   failed_reason when the attempt before was seen whole
SELECT
  c.call_id,
  c.retry_of,
  c.attempt,
  c.conversation_id,
  c.turn,
  f.status AS failed_status,
  f.error_type AS failed_error_type,
  f.completeness_reason AS failed_reason,
  f.duration_ms AS failed_ms,
  f.retry_after_ms AS asked_ms,
  CAST(CAST(c.start_ts AS BIGINT) - CAST(f.end_ts AS BIGINT) AS DOUBLE)
    / 1e6 AS waited_ms,
  CAST(CAST(c.start_ts AS BIGINT) - CAST(f.end_ts AS BIGINT) AS DOUBLE)
    / 1e6 >= f.retry_after_ms AS kept_wait,
  c.status
FROM llm_calls AS c
JOIN llm_calls AS f ON f.call_id = c.retry_of
ORDER BY c.start_ts, c.call_id
