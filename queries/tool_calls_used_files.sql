-- Which files did each tool call use, by the processes that it started?
--
-- Parameters:
--   written_only bool = false: only files that were written, made, renamed or
--     removed
-- Columns:
--   tool_call_id: tool call
--   call_id: call whose response asked for it
--   tool: name of the tool
--   confidence: how sure it is that the process is the tool call's
--   pid: process that used the file
--   path: path of the file
--   opens: how often the process opened it
--   read_bytes: bytes read
--   written_bytes: bytes written
--   created: whether the process made it
--   deleted_ts: when the process removed it
-- Absence:
--   path is NULL where it was lost, deleted_ts where it was not removed; tools
--   that the agent carries out itself are in tool_calls.file
SELECT
  p.tool_call_id,
  p.tool_of_call_id AS call_id,
  t.name AS tool,
  p.tool_confidence AS confidence,
  f.pid,
  f.path,
  f.opens,
  f.read_bytes,
  f.written_bytes,
  f.created,
  f.deleted_ts
FROM processes AS p
JOIN files AS f
  ON f.pid = p.pid AND f.process_start_ts = p.start_ts
LEFT JOIN tool_calls AS t
  ON t.tool_call_id = p.tool_call_id AND t.call_id = p.tool_of_call_id
WHERE p.tool_call_id IS NOT NULL
  AND (
    NOT $written_only
    OR f.written_bytes > 0
    OR f.created
    OR f.renamed_from IS NOT NULL
    OR f.renamed_to IS NOT NULL
    OR f.deleted_ts IS NOT NULL
  )
ORDER BY
  p.tool_of_call_id,
  p.tool_call_id,
  f.first_ts,
  f.pid,
  f.path NULLS LAST
