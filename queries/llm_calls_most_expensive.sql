-- Which calls to a model cost most?
--
-- Columns:
--   call_id: number of the call
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   call_class: main, subagent, side, compaction, warmup or count_tokens
--   start_ts: first byte of the request
--   model: model that answered, or the one asked for when none did
--   cost_usd: what it cost, US dollars
--   cost_percent: cost_usd of that of all calls, percent
--   input_tokens: uncached input tokens
--   cache_read_tokens: input tokens read from the provider's cache
--   cache_creation_tokens: input tokens written to the provider's cache
--   output_tokens: all billed output tokens
--   usage_state: how the counts came to be known
--   price_source: where the price is from
--   unpriced_reason: why there is no cost
-- Absence:
--   cost_usd is NULL when there is no price, or no counts; such calls come last
SELECT
  call_id,
  conversation_id,
  turn,
  call_class,
  start_ts,
  coalesce(model, request_model) AS model,
  cost_usd,
  100.0 * cost_usd / nullif(sum(cost_usd) OVER (), 0.0) AS cost_percent,
  input_tokens,
  cache_read_tokens,
  cache_creation_tokens,
  output_tokens,
  usage_state,
  price_source,
  unpriced_reason
FROM llm_calls
ORDER BY cost_usd DESC NULLS LAST, call_id
