-- How much of each limit was used when it was last told, and which is close?
--
-- Columns:
--   name: name of the limit
--   used_percent: share used, percent
--   allowed: how much is allowed
--   remaining: how much is left
--   reset_ts: when it starts anew
--   status: the provider's word for its state
--   ts: when it was told last
--   http_id: exchange that told it
--   max_used_percent: highest share told in the recording, percent
--   told: how often it was told
-- Absence:
--   no row when no response tells of limits; values are NULL when the response
--   does not say
WITH numbered AS (
  SELECT
    name,
    used_percent,
    allowed,
    remaining,
    reset_ts,
    status,
    ts,
    http_id,
    max(used_percent) OVER (PARTITION BY name) AS max_used_percent,
    count(*) OVER (PARTITION BY name) AS told,
    row_number() OVER (PARTITION BY name ORDER BY ts DESC, http_id DESC)
      AS place
  FROM limits
)
SELECT
  name,
  used_percent,
  allowed,
  remaining,
  reset_ts,
  status,
  ts,
  http_id,
  max_used_percent,
  told
FROM numbered
WHERE place = 1
ORDER BY used_percent DESC NULLS LAST, name
