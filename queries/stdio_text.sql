-- What went through the standard streams of the processes, or of one?
--
-- Parameters:
--   pid int = NULL: only this process; NULL means all
-- Columns:
--   ts: when the call returned
--   pid: process that made it
--   comm: name of its thread
--   fd: file descriptor, 0 to 2 for the standard streams
--   direction: read or write, seen from the process
--   text: the bytes as text; what is not UTF-8 is replaced
--   lost_bytes: bytes at its end that could not be captured, bytes
--   peer_pid: process at the other end
-- Absence:
--   no rows: nothing went through pipes or socket pairs, or the recorder was
--   told not to look; streams that are files or terminals are not recorded;
--   peer_pid is NULL where that process was not observed or may be one of
--   several
SELECT
  ts,
  pid,
  comm,
  fd,
  direction,
  body_text(data) AS text,
  lost_bytes,
  peer_pid
FROM stdio_chunks
WHERE $pid IS NULL OR pid = $pid
ORDER BY ts, conn_id, direction, stream_offset
