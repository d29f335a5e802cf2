-- Which processes used files, how many, and how much did they read and write?
--
-- Columns:
--   pid: process id
--   process_start_ts: when the process was created
--   comm: its name
--   files: paths it used or asked for
--   read_files: files it read from
--   read_bytes: bytes it read, bytes
--   written_files: files it wrote to
--   written_bytes: bytes it wrote, bytes
--   created_files: files, directories and links it made
--   deleted_files: paths it removed
--   failed_opens: times it could not open a file
--   first_ts: when it first used one
--   last_ts: when it last did
-- Absence:
--   no rows: no file was used, or the recorder was told not to look
SELECT
  pid,
  process_start_ts,
  max(comm) AS comm,
  count(*) AS files,
  count(CASE WHEN read_bytes > 0 THEN 1 END) AS read_files,
  sum(read_bytes) AS read_bytes,
  count(CASE WHEN written_bytes > 0 THEN 1 END) AS written_files,
  sum(written_bytes) AS written_bytes,
  count(CASE WHEN created THEN 1 END) AS created_files,
  count(deleted_ts) AS deleted_files,
  sum(failed_opens) AS failed_opens,
  min(first_ts) AS first_ts,
  max(last_ts) AS last_ts
FROM files
GROUP BY pid, process_start_ts
ORDER BY written_bytes DESC, read_bytes DESC, process_start_ts, pid
