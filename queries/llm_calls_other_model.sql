-- Which calls were answered by another model or tier than was asked for?
--
-- Columns:
--   call_id: number of the call
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   start_ts: first byte of the request
--   request_model: model asked for
--   model: model that answered
--   request_tier: service tier or speed asked for
--   tier: service tier or speed served
--   output_tokens: all billed output tokens
-- Absence:
--   no row when all calls got what they asked for; a model that answers under
--   its name with a date (m-1 asked, m-1-0101 answered) counts as the same
SELECT
  call_id,
  conversation_id,
  turn,
  start_ts,
  request_model,
  model,
  request_tier,
  tier,
  output_tokens
FROM llm_calls
WHERE (NOT starts_with(model, request_model))
  OR (request_tier <> 'auto' AND request_tier <> tier)
ORDER BY start_ts, call_id
