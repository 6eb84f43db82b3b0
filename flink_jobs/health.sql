-- How many records of the answers' topic the job has skipped: nothing vanishes untold.
--
-- Parameters (string.Template): as in answers.sql; topk = topic; day_us = expression in UTC µs.
-- A repeat is harmless: the counts are in the checkpoint, so it is the same count again.

-- One row per record, unread: the JSON format of `answers` drops what it cannot parse without a trace. No watermark:
-- what is counted here closes no window.
CREATE TABLE bodies (
  body STRING,
  appended_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = '${answers}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'properties.group.id' = '${group}-bodies',
  'properties.isolation.level' = 'read_committed',
  'properties.max.poll.records' = '5000',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'raw'
);

-- One row per (UTC day on which the broker took the records, reason): how many the job has skipped so far. Beside the
-- top 10s, place 1 = not_json, 2 = no_answer.
CREATE TABLE health (
  kind STRING,
  `scope` STRING,
  `level` STRING,
  window_start_us BIGINT,
  place BIGINT,
  window_end_us BIGINT,
  subject_id STRING,
  amount BIGINT,
  reached_at_us BIGINT,
  PRIMARY KEY (kind, `scope`, `level`, window_start_us, place) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = '${topk}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'key.format' = 'json',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'at-least-once'
);

-- One row per skipped record. Bytes that are no UTF-8 are read as U+FFFD: encoding them again tells them. `kind` is
-- always 'health', which the planner must not know: it would take the constant out of the grouping, miss the sink's
-- key, and send a tombstone before each new count; so with scope and level.
CREATE TEMPORARY VIEW skipped AS
SELECT CASE WHEN appended_at IS NULL THEN 'unknown' ELSE 'health' END AS kind,
  CASE WHEN appended_at IS NULL THEN 'unknown' ELSE 'global' END AS `scope`,
  CASE WHEN appended_at IS NULL THEN 'unknown' ELSE 'day' END AS `level`, ${day_us} AS day_us, place
FROM (
  SELECT appended_at, CAST(1 AS BIGINT) AS place FROM bodies
  WHERE NOT COALESCE(body IS JSON OBJECT, FALSE) OR ENCODE(body, 'UTF-8') <> CAST(body AS BYTES)
  UNION ALL
  SELECT appended_at, CAST(2 AS BIGINT) AS place FROM merged WHERE NOT fits
);

INSERT INTO health
SELECT kind, `scope`, `level`, day_us, place, day_us + 86400000000,
  CASE place WHEN 1 THEN 'not_json' ELSE 'no_answer' END, COUNT(*), CAST(NULL AS BIGINT)
FROM skipped
GROUP BY kind, `scope`, `level`, day_us, place;
