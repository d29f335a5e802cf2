-- Which hosts were connected to, by which programs, and how much was moved?
--
-- Columns:
--   host: name of the host, or its address where nothing names it
--   protocol: tls, http (in plain text), dns or other
--   comm: name of the program
--   connections: connections to it
--   failed_connections: connections that could not be made
--   read_bytes: bytes read from the sockets, bytes
--   written_bytes: bytes written to them, bytes
--   plaintext_read_bytes: bytes read from TLS libraries, bytes
--   plaintext_written_bytes: bytes written to them, bytes
--   incomplete_connections: connections of which plaintext is missing
--   first_ts: when the first was made
--   last_ts: when the last was made
-- Absence:
--   no rows: no connection was made, or the recorder was told not to look; host
--   is NULL where the socket of a TLS connection is not known and no request
--   names it; bytes are NULL where no connection tells, and leave out
--   connections that were still open
SELECT
  coalesce(host, remote_addr) AS host,
  protocol,
  comm,
  count(*) AS connections,
  count(CASE WHEN errno <> 0 THEN 1 END) AS failed_connections,
  sum(read_bytes) AS read_bytes,
  sum(written_bytes) AS written_bytes,
  sum(plaintext_read_bytes) AS plaintext_read_bytes,
  sum(plaintext_written_bytes) AS plaintext_written_bytes,
  count(CASE WHEN NOT complete THEN 1 END) AS incomplete_connections,
  min(start_ts) AS first_ts,
  max(start_ts) AS last_ts
FROM connections
WHERE (channel_type IS NULL OR channel_type IN ('tcp', 'udp'))
  AND (role IS NULL OR role <> 'accept')
GROUP BY coalesce(host, remote_addr), protocol, comm
ORDER BY connections DESC, host NULLS LAST, protocol NULLS LAST,
  comm NULLS LAST
