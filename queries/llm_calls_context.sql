-- How did the context grow, and what is it made of?
--
-- Parameters:
--   conversation_id int = NULL: only this conversation; NULL means all
-- Columns:
--   conversation_id: number of the conversation
--   turn: number of the turn in it
--   call_id: number of the call
--   start_ts: first byte of the request
--   call_class: main, subagent, side, compaction or warmup
--   total_input_tokens: input tokens, cached or not, as the provider counts
--   system_bytes: instructions in the request, bytes
--   tool_definition_bytes: definitions of tools in it, bytes
--   tool_result_bytes: results of tools in it, bytes
--   user_bytes: words of the user in it, bytes
--   assistant_bytes: what the model said before, bytes
--   system_percent: instructions of all of these, percent
--   tool_definition_percent: definitions of tools of all, percent
--   tool_result_percent: results of tools of all, percent
--   user_percent: words of the user of all, percent
--   assistant_percent: what the model said of all, percent
-- Absence:
--   sizes are NULL when not all of the request was captured; of an API that
--   keeps the history itself a request has only what is new. Shares are of
--   bytes: tokens per byte differ between texts
WITH sized AS (
  SELECT
    conversation_id,
    turn,
    call_id,
    start_ts,
    call_class,
    total_input_tokens,
    system_bytes,
    tool_definition_bytes,
    tool_result_bytes,
    user_bytes,
    assistant_bytes,
    CAST(
      nullif(
        system_bytes + tool_definition_bytes + tool_result_bytes + user_bytes
          + assistant_bytes,
        0
      ) AS DOUBLE
    ) AS all_bytes
  FROM llm_calls
  WHERE call_class <> 'count_tokens'
    AND ($conversation_id IS NULL OR conversation_id = $conversation_id)
)
SELECT
  conversation_id,
  turn,
  call_id,
  start_ts,
  call_class,
  total_input_tokens,
  system_bytes,
  tool_definition_bytes,
  tool_result_bytes,
  user_bytes,
  assistant_bytes,
  100.0 * system_bytes / all_bytes AS system_percent,
  100.0 * tool_definition_bytes / all_bytes AS tool_definition_percent,
  100.0 * tool_result_bytes / all_bytes AS tool_result_percent,
  100.0 * user_bytes / all_bytes AS user_percent,
  100.0 * assistant_bytes / all_bytes AS assistant_percent
FROM sized
ORDER BY conversation_id NULLS LAST, start_ts, call_id
