-- While the day runs: top 10 quizzes and users of each window, and a sketch of the missed questions of each.
--
-- Parameters (string.Template): bootstrap; answers, late, topk, sketches = topics; group = consumer group;
--   answer_columns, answer_names = the event's, from contracts.events; ticker_nulls = as many typed nulls; window_s,
--   out_of_order_s, ticker_behind_s (seconds); window_start_us, window_end_us = expressions in UTC µs.
--   Statements end with a semicolon at the end of a line.
-- A repeat is harmless: topk and sketches are compacted by their keys (kind, window, place), at least once; a reader
--   of the late topic takes each event_id once. Sinks are plain `kafka` with a key, not `upsert-kafka`: each row is
--   final when it is written, and the planner refuses the plain one should a query ever turn into a changelog (only
--   `health` is one). Order of users is that of contracts/ranking.py: points down, reached_at (tick 1 s) up, user_id
--   down; of quizzes: plays down, quiz_id down.

-- One row per record that is JSON; one that is not is skipped (`bodies` counts it), a field of a
-- wrong type is null. Only live
-- answers carry their own event time. Imports and barriers, skipped below, carry the time the broker appended them,
-- so that an hour of importing years-old answers neither holds the watermark back nor leaves a partition behind.
CREATE TABLE answers (
${answer_columns},
  appended_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  headers MAP<STRING NOT NULL, BYTES NOT NULL> METADATA VIRTUAL,
  event_time AS CASE
    WHEN origin = 'live' AND occurred_at_us IS NOT NULL THEN TO_TIMESTAMP_LTZ(occurred_at_us / 1000, 3)
    ELSE appended_at
  END,
  WATERMARK FOR event_time AS event_time - INTERVAL '${out_of_order_s}' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = '${answers}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.ignore-parse-errors' = 'true',
  'json.fail-on-missing-field' = 'false'
);

-- One row per record, unread: the JSON format above drops what it cannot parse without a trace. No watermark: what
-- is counted here closes no window.
CREATE TABLE bodies (
  body STRING,
  appended_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = '${answers}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'properties.group.id' = '${group}-bodies',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'raw'
);

-- One row a second whose watermark follows the wall clock: when play stops and every partition is idle, the union's
-- watermark is this one, and the last window closes within window + ticker_behind + idle timeout.
-- `never` is at most 0, which the planner cannot know, so it keeps this branch.
CREATE TABLE ticker (
  never INT,
  event_time AS CAST(CURRENT_TIMESTAMP AS TIMESTAMP_LTZ(3)),
  WATERMARK FOR event_time AS event_time - INTERVAL '${ticker_behind_s}' SECOND
) WITH (
  'connector' = 'datagen',
  'rows-per-second' = '1',
  'scan.parallelism' = '1',
  'fields.never.min' = '0',
  'fields.never.max' = '0'
);

-- One row per live answer that has all the fields used below (fits), and per record that is neither that nor an
-- import nor a barrier (does not fit: counted in `health`). Imports are skipped whatever they hold.
CREATE TEMPORARY VIEW timed AS
SELECT * FROM (
  SELECT ${answer_names}, fits, appended_at, event_time FROM (
    SELECT *, origin IS NOT NULL AND origin = 'live' AND event_id IS NOT NULL AND occurred_at_us IS NOT NULL
      AND user_id IS NOT NULL AND quiz_id IS NOT NULL AND question_id IS NOT NULL AND correct IS NOT NULL
      AND points IS NOT NULL AND COALESCE(points, -1) >= 0 AS fits
    FROM answers
    WHERE (origin IS NULL OR origin <> 'import')
      AND COALESCE(CAST(headers['${header_type}'] AS STRING), '') <> '${barrier_type}'
  )
  UNION ALL
  SELECT ${ticker_nulls}, FALSE, event_time, event_time FROM ticker WHERE never > 0
);

-- One row per live answer, and whether its window had closed when it came: it is then in `late`, else in its window.
-- `merged` is `timed` as one stream, made by submit.py: over the view itself the planner pushes CURRENT_WATERMARK
-- below the union, where it is the source's alone, and rows that only the ticker made late vanish.
CREATE TEMPORARY VIEW judged AS
SELECT *, COALESCE(
  TO_TIMESTAMP_LTZ((occurred_at_us / 1000000 / ${window_s} + 1) * ${window_s} * 1000 - 1, 3)
    <= CURRENT_WATERMARK(event_time), FALSE) AS is_late
FROM merged WHERE fits;

-- One row per answer in time.
CREATE TEMPORARY VIEW in_time AS SELECT * FROM judged WHERE NOT is_late;

-- One row per late answer, with the event's own fields.
CREATE TABLE late_answers (
${answer_columns}
) WITH (
  'connector' = 'kafka',
  'topic' = '${late}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'key.format' = 'raw',
  'key.fields' = 'event_id',
  'value.format' = 'json',
  'value.fields-include' = 'ALL',
  'sink.delivery-guarantee' = 'at-least-once'
);

-- One row per (kind, window, place): kind is quizzes (amount = plays) or users (amount = points).
CREATE TABLE top_k (
  kind STRING,
  window_start_us BIGINT,
  place BIGINT,
  window_end_us BIGINT,
  subject_id STRING,
  amount BIGINT,
  reached_at_us BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = '${topk}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'key.format' = 'json',
  'key.fields' = 'kind;window_start_us;place',
  'value.format' = 'json',
  'value.fields-include' = 'ALL',
  'sink.delivery-guarantee' = 'at-least-once'
);

-- One row per (UTC day on which the broker took the records, reason): how many the job has skipped so far. Beside the
-- top 10s, place 1 = not_json, 2 = no_answer; a repeat is the same count again, since the counts are in the checkpoint.
CREATE TABLE health (
  kind STRING,
  window_start_us BIGINT,
  place BIGINT,
  window_end_us BIGINT,
  subject_id STRING,
  amount BIGINT,
  reached_at_us BIGINT,
  PRIMARY KEY (kind, window_start_us, place) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = '${topk}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'key.format' = 'json',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'at-least-once'
);

-- One row per (kind, level, window): `sketch` is base64 of the bytes of sketches.count_min; answers = rows
-- counted; heaviest = the most frequent keys, since a Count-Min cannot list its own.
CREATE TABLE window_sketches (
  kind STRING,
  level STRING,
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

-- One row per (window, quiz).
CREATE TEMPORARY VIEW quiz_plays AS
SELECT window_start, window_end, quiz_id, COUNT(*) AS plays
FROM TABLE(TUMBLE(TABLE in_time, DESCRIPTOR(event_time), INTERVAL '${window_s}' SECOND))
GROUP BY window_start, window_end, quiz_id;

-- One row per (window, user).
CREATE TEMPORARY VIEW user_points AS
SELECT window_start, window_end, user_id, SUM(points) AS points,
  MAX(CASE WHEN points > 0 THEN occurred_at_us / 1000000 * 1000000 END) AS reached_at_us
FROM TABLE(TUMBLE(TABLE in_time, DESCRIPTOR(event_time), INTERVAL '${window_s}' SECOND))
GROUP BY window_start, window_end, user_id;

-- One row per (window, question), also where nobody missed it.
CREATE TEMPORARY VIEW question_misses AS
SELECT window_start, window_end, question_id, COUNT(*) AS answers,
  SUM(CASE WHEN correct THEN 0 ELSE 1 END) AS misses
FROM TABLE(TUMBLE(TABLE in_time, DESCRIPTOR(event_time), INTERVAL '${window_s}' SECOND))
GROUP BY window_start, window_end, question_id;

-- One row per skipped record. `kind` is always 'health', which the planner must not know: it would take the constant out
-- of the grouping, miss the sink's key, and send a tombstone before each new count.
CREATE TEMPORARY VIEW skipped AS
SELECT CASE WHEN appended_at IS NULL THEN 'unknown' ELSE 'health' END AS kind, ${day_us} AS day_us, place
FROM (
  SELECT appended_at, CAST(1 AS BIGINT) AS place FROM bodies WHERE NOT COALESCE(body IS JSON OBJECT, FALSE)
  UNION ALL
  SELECT appended_at, CAST(2 AS BIGINT) AS place FROM merged WHERE NOT fits
);

INSERT INTO late_answers SELECT ${answer_names} FROM judged WHERE is_late;

INSERT INTO top_k
SELECT 'quizzes', ${window_start_us}, place, ${window_end_us}, quiz_id, plays, CAST(NULL AS BIGINT)
FROM (
  SELECT *, ROW_NUMBER() OVER (
    PARTITION BY window_start, window_end ORDER BY plays DESC, quiz_id DESC) AS place
  FROM quiz_plays
) WHERE place <= 10;

INSERT INTO top_k
SELECT 'users', ${window_start_us}, place, ${window_end_us}, user_id, points, reached_at_us
FROM (
  SELECT *, ROW_NUMBER() OVER (
    PARTITION BY window_start, window_end
    ORDER BY points DESC, COALESCE(reached_at_us, 0) ASC, user_id DESC) AS place
  FROM user_points
) WHERE place <= 10;

INSERT INTO health
SELECT kind, day_us, place, day_us + 86400000000, CASE place WHEN 1 THEN 'not_json' ELSE 'no_answer' END, COUNT(*),
  CAST(NULL AS BIGINT)
FROM skipped
GROUP BY kind, day_us, place;

INSERT INTO window_sketches
SELECT 'missed_questions', 'minute', ${window_start_us}, ${window_end_us}, answers,
  heaviest_keys(counts), build_count_min('question', counts)
FROM (
  SELECT window_start, window_end, SUM(answers) AS answers,
    ARRAY_AGG(CONCAT(question_id, ':', CAST(misses AS STRING))) AS counts
  FROM question_misses
  GROUP BY window_start, window_end
);
