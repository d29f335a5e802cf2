-- What did the calls to each model cost, at whose prices, and of how many is it
-- not known?
--
-- Columns:
--   provider: who runs the model
--   model: model that answered, or the one asked for when none did
--   price_terms: what the price is for: the service tier, and what comes on top
--   price_model: entries of the price list that were used
--   price_source: reported (by the provider), free, the built-in price list, or
--     the file given with --prices
--   price_date: date of that list, YYYY-MM-DD
--   unpriced_reason: why there is no cost: usage, provider, model, tier or
--     counts
--   calls: requests of this kind
--   cut_calls: calls of which only counts before the end were seen; their cost
--     is at least what is in the sum
--   unpriced_calls: calls without a cost; not in the sum
--   cost_usd: cost of the others, US dollars
--   max_cost_usd: the dearest of them, US dollars
-- Absence:
--   cost_usd is NULL when no call of the row has a cost, unpriced_reason when
--   they have; price columns are NULL when there is no price or no list
SELECT
  provider,
  coalesce(model, request_model) AS model,
  price_terms,
  price_model,
  price_source,
  price_date,
  unpriced_reason,
  count(*) AS calls,
  sum(CASE WHEN cost_usd > 0 AND usage_state = 'partial' THEN 1 ELSE 0 END)
    AS cut_calls,
  sum(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END) AS unpriced_calls,
  sum(cost_usd) AS cost_usd,
  max(cost_usd) AS max_cost_usd
FROM llm_calls
GROUP BY 1, 2, 3, 4, 5, 6, 7
ORDER BY
  cost_usd DESC NULLS LAST,
  calls DESC,
  provider,
  model NULLS LAST,
  price_terms NULLS LAST,
  price_model NULLS LAST,
  price_source NULLS LAST,
  price_date NULLS LAST,
  unpriced_reason NULLS LAST
