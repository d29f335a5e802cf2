-- Which processes ran on after the tool call that started them, or after their
-- agent, had ended?
--
-- Parameters:
--   min_ms float = 1000: only those that are known to have run on for at least
--     this long, milliseconds, and those of which it is not known
-- Columns:
--   pid: process id
--   start_ts: when it was created
--   end_ts: when it ended
--   name: its name
--   command: its arguments
--   outlived: what it ran on after: agent or tool_call
--   outlived_ms: for how long, to its end or its last sample, milliseconds
--   orphaned: whether its parent ended before it
--   tool_call_id: tool call that started it
--   tool: name of that tool
--   peak_rss_bytes: highest resident memory, bytes
--   cpu_ms: CPU time over its life, milliseconds
-- Absence:
--   end_ts is NULL when it had not ended, outlived_ms when it was not seen
--   afterwards, tool_call_id and tool when no tool call is known to have
--   started it
SELECT
  p.pid,
  p.start_ts,
  p.end_ts,
  p.comm AS name,
  array_to_string(p.argv, ' ') AS command,
  p.outlived,
  p.outlived_ms,
  p.orphaned,
  p.tool_call_id,
  t.name AS tool,
  p.peak_rss_bytes,
  p.cpu_ms
FROM processes AS p
LEFT JOIN tool_calls AS t
  ON t.tool_call_id = p.tool_call_id AND t.call_id = p.tool_of_call_id
WHERE p.outlived IS NOT NULL
  AND (p.outlived_ms IS NULL OR p.outlived_ms >= $min_ms)
ORDER BY p.start_ts, p.pid
