-- A sketch of each minute in each dimension of contracts/sketched.py. Hours, days and late answers: the relay.
--
-- Parameters (string.Template): bootstrap; sketches = topic; window; window_start_us, window_end_us = expressions in UTC
--   µs; kinds_by_subject = an expression of the dimensions that one subject's counts make. Reads `minutes` of top_k.sql.
-- A repeat is harmless: the topic is compacted by (kind, level, window_start_us).
-- SQL counts each key in the window; Python runs once a sketch, over the counts (build_sketches.py).

-- One row per (dimension, minute): `sketch` is base64 of the bytes; answers = counted in the window; heaviest = the most
-- frequent keys, since a Count-Min cannot list its own. Fields and key: contracts.sketched.SketchRecord.
CREATE TABLE window_sketches (
  kind STRING,
  `level` STRING,
  window_start_us BIGINT,
  window_end_us BIGINT,
  answers BIGINT,
  heaviest ARRAY<STRING>,
  sketch STRING
) WITH (
  'connector' = 'kafka',
  'topic' = '${sketches}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'properties.compression.type' = 'gzip',
  'key.format' = 'json',
  'key.fields' = 'kind;level;window_start_us',
  'value.format' = 'json',
  'value.fields-include' = 'ALL',
  'sink.delivery-guarantee' = 'at-least-once'
);

-- One row per (minute, subject): the counts of its keys, `key:misses`; of users `key:plays`. Keys without a miss are in
-- it, so that a minute with play but without a miss has a sketch: a reader can tell "none" from "not yet".
CREATE TEMPORARY VIEW counts_by_subject AS
SELECT window_start, window_end, kind AS subject, SUM(plays) AS answers,
  ARRAY_AGG(CONCAT(subject_id, ':', CAST(CASE kind WHEN 'users' THEN plays ELSE misses END AS STRING))) AS counts
FROM TABLE(TUMBLE(TABLE minutes, DESCRIPTOR(minute_time), ${window}))
GROUP BY window_start, window_end, kind;

-- One row per (minute, time taken, points): how many answers took as many ms and brought as much. A clock that went
-- back counts as 0. Points follow from the time where the answer is right, so there are few more rows than times.
CREATE TEMPORARY VIEW minute_values_summed AS
SELECT window_time AS part_time, taken_ms, points, COUNT(*) AS plays
FROM TABLE(TUMBLE(TABLE in_time, DESCRIPTOR(event_time), ${window}))
GROUP BY window_start, window_end, window_time, taken_ms, points;

-- One row per minute: the counts of all times taken; a time may be in it more than once.
CREATE TEMPORARY VIEW counts_of_times AS
SELECT window_start, window_end, SUM(plays) AS answers,
  ARRAY_AGG(CONCAT(CAST(taken_ms AS STRING), ':', CAST(plays AS STRING))) AS counts
FROM TABLE(TUMBLE(TABLE minute_values, DESCRIPTOR(part_time), ${window}))
GROUP BY window_start, window_end;

-- The same of points.
CREATE TEMPORARY VIEW counts_of_points AS
SELECT window_start, window_end, SUM(plays) AS answers,
  ARRAY_AGG(CONCAT(CAST(points AS STRING), ':', CAST(plays AS STRING))) AS counts
FROM TABLE(TUMBLE(TABLE minute_values, DESCRIPTOR(part_time), ${window}))
GROUP BY window_start, window_end;

INSERT INTO window_sketches
SELECT kind, 'minute', ${window_start_us}, ${window_end_us}, answers, heaviest_keys(kind, counts),
  build_sketch(kind, counts)
FROM counts_by_subject CROSS JOIN UNNEST(${kinds_by_subject}) AS dimensions (kind);
INSERT INTO window_sketches
SELECT 'elapsed_ms', 'minute', ${window_start_us}, ${window_end_us}, answers, CAST(NULL AS ARRAY<STRING>),
  build_sketch('elapsed_ms', counts)
FROM counts_of_times;
INSERT INTO window_sketches
SELECT 'points', 'minute', ${window_start_us}, ${window_end_us}, answers, CAST(NULL AS ARRAY<STRING>),
  build_sketch('points', counts)
FROM counts_of_points;
