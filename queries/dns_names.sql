-- Which names were looked up, and which addresses do they have?
--
-- Columns:
--   question: name that was asked for
--   address: an address of it
--   error: why there is none, such as NXDOMAIN
--   answers: how often that was the answer
--   comm: name of a program that asked
--   server_addr: address of a server that answered
--   first_ts: when first
--   last_ts: when last
-- Absence:
--   no rows: nothing was looked up over UDP, or the recorder was told not to
--   look; address is NULL where there is none, error where the server reported
--   none
SELECT
  question,
  address,
  error,
  count(*) AS answers,
  max(comm) AS comm,
  max(server_addr) AS server_addr,
  min(ts) AS first_ts,
  max(ts) AS last_ts
FROM dns_answers
WHERE target IS NULL
GROUP BY question, address, error
ORDER BY question NULLS LAST, address NULLS LAST, error NULLS LAST
