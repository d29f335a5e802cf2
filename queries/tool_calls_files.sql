-- Which files did tools name, how often, and how much of the context do they
-- take?
--
-- Parameters:
--   min_calls int = 1: only files named at least so often
-- Columns:
--   path: file, as the arguments name it
--   tool_calls: uses of tools that name it
--   tools: how many different tools
--   conversations: how many conversations
--   different_results: how many different results came; fewer than tool_calls
--     means that the same was read again
--   result_bytes: size of all results, bytes
--   carried_bytes: size of each result times the calls that sent it, bytes
--   first_ts: when it was named first
--   last_ts: when it was named last
-- Absence:
--   a file that only stands in a command line, or in an argument of another
--   name than file_path, path, filePath, absolute_path, notebook_path or
--   filename, is not in it; sizes are NULL when no use has a result
WITH named AS (
  SELECT
    coalesce(
      arguments->>'file_path',
      arguments->>'path',
      arguments->>'filePath',
      arguments->>'absolute_path',
      arguments->>'notebook_path',
      arguments->>'filename'
    ) AS path,
    name,
    conversation_id,
    result,
    result_bytes,
    carried_bytes,
    start_ts
  FROM tool_calls
)
SELECT
  path,
  count(*) AS tool_calls,
  count(DISTINCT name) AS tools,
  count(DISTINCT conversation_id) AS conversations,
  count(DISTINCT result) AS different_results,
  sum(result_bytes) AS result_bytes,
  sum(carried_bytes) AS carried_bytes,
  min(start_ts) AS first_ts,
  max(start_ts) AS last_ts
FROM named
WHERE path IS NOT NULL
GROUP BY path
HAVING count(*) >= $min_calls
ORDER BY tool_calls DESC, carried_bytes DESC NULLS LAST, path
