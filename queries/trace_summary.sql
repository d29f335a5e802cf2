-- What does the trace hold in all, and how complete is it?
--
-- Columns:
--   started_ts: when the recording started
--   stopped_ts: when the recording stopped
--   first_ts: first event
--   last_ts: last event
--   events: events in the trace
--   processes: processes
--   matched_processes: processes that matched the recording's filters
--     themselves
--   running_processes: processes that had not ended
--   cpu_ms: CPU time of all processes, milliseconds
--   peak_rss_bytes: highest resident set size of one process, bytes
--   samples: looks at processes
--   plaintext_bytes: plaintext that went through TLS libraries and sockets in
--     plain text, lost bytes included
--   connections: TLS connections with plaintext
--   exchanges: HTTP exchanges; one between two observed processes counts twice
--   calls: calls to models
--   complete_calls: calls seen whole
--   failed_calls: calls with a status from 400 on or an error in their stream
--   reported_calls: calls whose final token counts were seen
--   partial_calls: calls of which only counts before the end were seen
--   unreported_calls: calls without any token counts
--   total_input_tokens: input of all calls, cached or not
--   cache_read_tokens: input read from caches
--   output_tokens: billed output of all calls
--   lost_events: events that the recorder saw and could not keep
--   lost_bytes: payload that was lost with them, bytes
--   gaps: holes in captured streams, whatever their cause
--   gap_bytes: bytes missing in them
--   attached_binaries: binaries whose plaintext is recorded
--   unresolved_binaries: binaries with a TLS library that could not be resolved
--   failed_binaries: binaries where the kernel refused the probe
-- Absence:
--   stopped_ts is NULL when the recorder did not finish, first_ts and last_ts
--   are NULL in a trace without events; cpu_ms, peak_rss_bytes and token sums
--   are NULL when nothing told them
WITH recording AS (
  SELECT
    max(
      CASE
        WHEN key = 'agentsight.start_ts'
          THEN TRY_CAST(value AS TIMESTAMP WITH TIME ZONE)
      END
    ) AS started_ts,
    max(
      CASE
        WHEN key = 'agentsight.stop_ts'
          THEN TRY_CAST(value AS TIMESTAMP WITH TIME ZONE)
      END
    ) AS stopped_ts
  FROM trace_info
),
event_counts AS (
  SELECT
    min(ts) AS first_ts,
    max(ts) AS last_ts,
    count(*) AS events,
    count(CASE WHEN kind = 'sample' THEN 1 END) AS samples,
    coalesce(
      sum(CASE WHEN kind IN ('tls_data', 'socket_data') THEN data_bytes END),
      0
    ) AS plaintext_bytes,
    count(DISTINCT CASE WHEN kind = 'tls_data' THEN conn_id END)
      AS connections
  FROM events
),
process_counts AS (
  SELECT
    count(*) AS processes,
    count(CASE WHEN matched THEN 1 END) AS matched_processes,
    count(CASE WHEN end_ts IS NULL THEN 1 END) AS running_processes,
    sum(cpu_ms) AS cpu_ms,
    max(peak_rss_bytes) AS peak_rss_bytes
  FROM processes
),
http_counts AS (
  SELECT count(*) AS exchanges
  FROM http
),
call_counts AS (
  SELECT
    count(*) AS calls,
    count(CASE WHEN complete THEN 1 END) AS complete_calls,
    count(CASE WHEN status >= 400 OR error_type IS NOT NULL THEN 1 END)
      AS failed_calls,
    count(CASE WHEN usage_state = 'reported' THEN 1 END) AS reported_calls,
    count(CASE WHEN usage_state = 'partial' THEN 1 END) AS partial_calls,
    count(CASE WHEN usage_state = 'none' THEN 1 END) AS unreported_calls,
    sum(total_input_tokens) AS total_input_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(output_tokens) AS output_tokens
  FROM llm_calls
),
loss_counts AS (
  SELECT
    coalesce(sum(CASE WHEN cause <> 'gap' THEN lost_events END), 0)
      AS lost_events,
    coalesce(sum(CASE WHEN cause <> 'gap' THEN lost_bytes END), 0)
      AS lost_bytes,
    count(CASE WHEN cause = 'gap' THEN 1 END) AS gaps,
    coalesce(sum(CASE WHEN cause = 'gap' THEN lost_bytes END), 0) AS gap_bytes
  FROM losses
),
probe_counts AS (
  SELECT
    count(DISTINCT CASE WHEN state = 'attached' THEN path END)
      AS attached_binaries,
    count(DISTINCT CASE WHEN state = 'unresolved' THEN path END)
      AS unresolved_binaries,
    count(DISTINCT CASE WHEN state = 'failed' THEN path END)
      AS failed_binaries
  FROM probes
)
SELECT
  r.started_ts,
  r.stopped_ts,
  e.first_ts,
  e.last_ts,
  e.events,
  p.processes,
  p.matched_processes,
  p.running_processes,
  p.cpu_ms,
  p.peak_rss_bytes,
  e.samples,
  e.plaintext_bytes,
  e.connections,
  h.exchanges,
  c.calls,
  c.complete_calls,
  c.failed_calls,
  c.reported_calls,
  c.partial_calls,
  c.unreported_calls,
  c.total_input_tokens,
  c.cache_read_tokens,
  c.output_tokens,
  l.lost_events,
  l.lost_bytes,
  l.gaps,
  l.gap_bytes,
  b.attached_binaries,
  b.unresolved_binaries,
  b.failed_binaries
FROM recording AS r
CROSS JOIN event_counts AS e
CROSS JOIN process_counts AS p
CROSS JOIN http_counts AS h
CROSS JOIN call_counts AS c
CROSS JOIN loss_counts AS l
CROSS JOIN probe_counts AS b
ORDER BY e.events
