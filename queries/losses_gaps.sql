-- Where are bytes missing in the captured plaintext, and how many?
--
-- Columns:
--   last_ts: when the bytes after the gap, or the call that lost them, were
--     seen
--   pid: process at this end of the connection
--   comm: its name
--   event_class: tls_data, socket_data (HTTP in plain text) or stdio_data
--     (between programs)
--   conn_id: connection
--   direction: read or write, seen from the process
--   stream_offset: position of the first missing byte in its direction, bytes
--   lost_bytes: missing bytes
-- Absence:
--   no rows: nothing is missing between the first and the last byte seen of any
--   stream
SELECT
  l.last_ts,
  l.pid,
  p.comm,
  l.event_class,
  l.conn_id,
  l.direction,
  l.stream_offset,
  l.lost_bytes
FROM losses AS l
LEFT JOIN (
  SELECT pid, max(comm) AS comm
  FROM processes
  GROUP BY pid
) AS p ON p.pid = l.pid
WHERE l.cause = 'gap'
ORDER BY l.last_ts, l.conn_id, l.direction, l.stream_offset
