-- Where was the provider's cache lost, what changed, and how many tokens had to
-- be read anew?
--
-- Parameters:
--   cause text = NULL: only this cause (content, ttl, model, unknown); NULL
--     means all
-- Columns:
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   call_id: call that could not use the cache
--   previous_call_id: call before it
--   ts: first byte of its request
--   model: model that answered, or the one asked for when none did
--   cause: content (what went before differs), ttl (it was not used for longer
--     than providers keep it), model (another one was asked for), unknown
--   first_difference: JSON path of the first difference between the requests
--   provider_reason: the provider's own word for the reason
--   common_bytes: size of the request before the first difference, bytes
--   idle_ms: end of the call before to begin of this one, milliseconds
--   lost_tokens: tokens that were in the cache and were not read from it
--   lost_cost_usd: what that cost, US dollars
-- Absence:
--   no row when nothing was lost, or no counts of the cache were reported;
--   first_difference is NULL when nothing that was sent before differs
SELECT
  b.conversation_id,
  c.turn,
  b.call_id,
  b.previous_call_id,
  b.ts,
  coalesce(c.model, c.request_model) AS model,
  b.cause,
  b.first_difference,
  b.provider_reason,
  b.common_bytes,
  b.idle_ms,
  b.lost_tokens,
  b.lost_cost_usd
FROM cache_breaks AS b
JOIN llm_calls AS c ON c.call_id = b.call_id
WHERE $cause IS NULL OR b.cause = $cause
ORDER BY b.ts, b.call_id
