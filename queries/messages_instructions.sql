-- Which instructions and definitions of tools were sent, and how large are
-- they?
--
-- Parameters:
--   block_type text = NULL: only text or tool_definition; NULL means both
-- Columns:
--   message_id: number of the block
--   conversation_id: conversation that had it first
--   call_id: call that sent it first
--   block_type: text (instructions) or tool_definition
--   tool_name: tool that is defined
--   bytes: size, bytes
--   beginning: begin of the text
--   sha256: hash of the content: the same in other traces where it is the same
-- Absence:
--   no row when no request to a model was captured whole
SELECT
  message_id,
  conversation_id,
  call_id,
  block_type,
  tool_name,
  bytes,
  substr(text, 1, 120) AS beginning,
  sha256
FROM messages
WHERE role = 'system' AND ($block_type IS NULL OR block_type = $block_type)
ORDER BY bytes DESC, message_id
