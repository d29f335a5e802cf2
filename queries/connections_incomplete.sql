-- Of which connections is plaintext missing, and about how much?
--
-- Columns:
--   conn_id: the connection
--   pid: process that has it
--   comm: its name
--   protocol: tls or http (in plain text)
--   host: name of the host, or its address where nothing names it
--   library: TLS library
--   plaintext: none (not a byte), part (some is missing) or unknown (plaintext
--     of the process was seen, and which of it is this connection's is not
--     known)
--   missing_bytes: plaintext that is missing, estimated from the bytes on the
--     wire for TLS, bytes
--   read_bytes: bytes read from the socket, bytes
--   written_bytes: bytes written to it, bytes
--   plaintext_ratio: plaintext by bytes on the wire; about 0.9 to 1.0 where all
--     is there and much was sent
--   start_ts: when it was made
-- Absence:
--   no rows: no plaintext is known to be missing; library is NULL where the TLS
--   connection is not known, bytes on the wire where the connection was open
--   or its socket is not known
SELECT
  conn_id,
  pid,
  comm,
  protocol,
  coalesce(host, remote_addr) AS host,
  library,
  CASE
    WHEN protocol <> 'tls' THEN 'part'
    WHEN plaintext_read_bytes IS NULL THEN 'unknown'
    WHEN plaintext_read_bytes + plaintext_written_bytes = 0 THEN 'none'
    ELSE 'part'
  END AS plaintext,
  missing_bytes,
  read_bytes,
  written_bytes,
  plaintext_ratio,
  start_ts
FROM connections
WHERE NOT complete
  OR (protocol = 'tls'
    AND (plaintext_read_bytes IS NULL
      OR plaintext_read_bytes + plaintext_written_bytes = 0))
ORDER BY missing_bytes DESC NULLS LAST, start_ts, conn_id
