-- Which agents made calls to models, and how many?
--
-- Columns:
--   agent: the agent program, as its User-Agent field names it
--   calls: calls to models
--   processes: processes that made them
--   first_ts: start of the first call
-- Absence:
--   agent is NULL for calls whose request named none
SELECT
  agent,
  count(*) AS calls,
  count(DISTINCT pid) AS processes,
  min(start_ts) AS first_ts
FROM llm_calls
GROUP BY agent
ORDER BY calls DESC, agent NULLS LAST
