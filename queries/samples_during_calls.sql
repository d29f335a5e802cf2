-- What did the traced processes do to their machine during calls to a model,
-- and what between them, in all and each?
--
-- Columns:
--   during_calls: true for the moments at which a call was running
--   pid: process id
--   start_ts: when the process was created
--   comm: its name
--   argv: arguments of the program it last executed
--   moments: times at which a process, or this one, was sampled
--   wall_ms: time since the moment before, summed over these, milliseconds
--   wall_percent: share of wall_ms in that of all moments, percent
--   cpu_ms: CPU time used since the sample before, milliseconds
--   cpu_share_percent: share of cpu_ms in that of all processes during calls,
--     or between them, percent
--   avg_cpu_percent: cpu_ms by wall_ms, percent of one core
--   max_cpu_percent: highest at one moment, all processes or this one, percent
--     of one core
--   max_rss_bytes: highest resident memory at one moment, bytes; pages that
--     processes share count in each
--   interval_ms: median time between two samples of a process, milliseconds
-- Absence:
--   no rows: nothing was sampled; pid and what describes a process are NULL in
--   the rows of all processes together; max_cpu_percent is NULL when only first
--   samples are known; what a process used after its last sample is in no row
WITH recording AS (
  SELECT CAST(min(ts) AS BIGINT) AS first_ns
  FROM events
),
looks AS (
  SELECT
    CAST(ts AS BIGINT) AS ts_ns,
    pid,
    process_start_ts,
    call_id,
    cpu_percent,
    rss_bytes,
    cpu_user_ms + cpu_system_ms AS cpu_ms,
    lag(CAST(ts AS BIGINT)) OVER (
      PARTITION BY pid, process_start_ts
      ORDER BY ts
    ) AS previous_ns,
    lag(cpu_user_ms + cpu_system_ms) OVER (
      PARTITION BY pid, process_start_ts
      ORDER BY ts
    ) AS previous_cpu_ms,
    lag(CAST(ts AS BIGINT)) OVER (
      ORDER BY ts, pid, process_start_ts
    ) AS any_previous_ns
  FROM samples
),
pace AS (
  SELECT median(ts_ns - previous_ns) AS interval_ns
  FROM looks
),
-- The processes are looked at one after the other. A pause of half an interval
-- ends a moment.
numbered AS (
  SELECT
    l.ts_ns,
    l.pid,
    l.process_start_ts,
    l.call_id,
    l.cpu_percent,
    l.rss_bytes,
    CASE
      WHEN l.previous_ns IS NOT NULL THEN l.cpu_ms - l.previous_cpu_ms
      -- A process that began under observation began with nothing. Its start
      -- is floored to 10 ms.
      WHEN CAST(l.process_start_ts AS BIGINT) >= r.first_ns - 10000000
        THEN l.cpu_ms
    END AS cpu_ms,
    sum(
      CASE
        WHEN l.ts_ns - l.any_previous_ns > p.interval_ns / 2 THEN 1
        ELSE 0
      END
    ) OVER (
      ORDER BY l.ts_ns, l.pid, l.process_start_ts
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS moment
  FROM looks AS l
  CROSS JOIN pace AS p
  CROSS JOIN recording AS r
),
processes_then AS (
  SELECT
    moment,
    pid,
    process_start_ts,
    max(ts_ns) AS ts_ns,
    count(call_id) AS call_samples,
    sum(cpu_ms) AS cpu_ms,
    max(cpu_percent) AS cpu_percent,
    max(rss_bytes) AS rss_bytes
  FROM numbered
  GROUP BY moment, pid, process_start_ts
),
moments AS (
  SELECT
    moment,
    max(ts_ns) AS ts_ns,
    sum(call_samples) > 0 AS during_calls,
    sum(cpu_ms) AS cpu_ms,
    sum(cpu_percent) AS cpu_percent,
    sum(rss_bytes) AS rss_bytes
  FROM processes_then
  GROUP BY moment
),
timed AS (
  SELECT
    m.moment,
    m.during_calls,
    (m.ts_ns - coalesce(lag(m.ts_ns) OVER (ORDER BY m.moment), r.first_ns))
      / 1e6 AS wall_ms,
    m.cpu_ms,
    m.cpu_percent,
    m.rss_bytes
  FROM moments AS m
  CROSS JOIN recording AS r
),
sums AS (
  SELECT
    during_calls,
    CAST(NULL AS BIGINT) AS pid,
    CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS start_ts,
    count(*) AS moments,
    sum(wall_ms) AS wall_ms,
    sum(cpu_ms) AS cpu_ms,
    max(cpu_percent) AS max_cpu_percent,
    max(rss_bytes) AS max_rss_bytes
  FROM timed
  GROUP BY during_calls
  UNION ALL
  SELECT
    t.during_calls,
    p.pid,
    p.process_start_ts AS start_ts,
    count(*) AS moments,
    sum(t.wall_ms) AS wall_ms,
    sum(p.cpu_ms) AS cpu_ms,
    max(p.cpu_percent) AS max_cpu_percent,
    max(p.rss_bytes) AS max_rss_bytes
  FROM processes_then AS p
  JOIN timed AS t ON t.moment = p.moment
  GROUP BY t.during_calls, p.pid, p.process_start_ts
),
totals AS (
  SELECT
    during_calls,
    cpu_ms,
    sum(wall_ms) OVER () AS all_wall_ms
  FROM sums
  WHERE pid IS NULL
)
SELECT
  s.during_calls,
  s.pid,
  s.start_ts,
  p.comm,
  p.argv,
  s.moments,
  s.wall_ms,
  100.0 * s.wall_ms / nullif(t.all_wall_ms, 0.0) AS wall_percent,
  s.cpu_ms,
  100.0 * s.cpu_ms / nullif(t.cpu_ms, 0.0) AS cpu_share_percent,
  100.0 * s.cpu_ms / nullif(s.wall_ms, 0.0) AS avg_cpu_percent,
  s.max_cpu_percent,
  s.max_rss_bytes,
  i.interval_ns / 1e6 AS interval_ms
FROM sums AS s
JOIN totals AS t ON t.during_calls = s.during_calls
CROSS JOIN pace AS i
LEFT JOIN processes AS p ON p.pid = s.pid AND p.start_ts = s.start_ts
ORDER BY
  s.during_calls DESC,
  s.pid IS NOT NULL,
  s.cpu_ms DESC NULLS LAST,
  s.start_ts,
  s.pid
