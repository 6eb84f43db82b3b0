-- What all streams read: live answers in event time, those that come too late, and nothing else.
--
-- Parameters (string.Template): bootstrap; answers, late = topics; group = consumer group; bounds = options of a
--   source that ends, or nothing; answer_columns, answer_names = the event's, from contracts.events; ticker_nulls = as
--   many typed nulls; event_time, chosen = which rows and their time (statements.py: live, or a history); out_of_order,
--   ticker_behind = intervals; window_s (seconds); ticker_rows. Statements end with a semicolon at the end of a line.
-- A repeat is harmless: a reader of the late topic takes each event_id once.

-- One row per record that is JSON; one that is not is skipped (health.sql counts it), a field of a wrong type is null.
-- Only live answers carry their own event time. Imports and barriers, skipped below, carry the time the broker
-- appended them, so that an hour of importing years-old answers neither holds the watermark back nor leaves a
-- partition behind.
CREATE TABLE answers (
${answer_columns},
  appended_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  headers MAP<STRING NOT NULL, BYTES NOT NULL> METADATA VIRTUAL,
  event_time AS CASE
    WHEN ${event_time} AND occurred_at_us IS NOT NULL THEN TO_TIMESTAMP_LTZ(occurred_at_us / 1000, 3)
    ELSE appended_at
  END,
  WATERMARK FOR event_time AS event_time - ${out_of_order}
) WITH (
  'connector' = 'kafka',
  'topic' = '${answers}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'properties.group.id' = '${group}',
  'properties.isolation.level' = 'read_committed',
  'properties.max.poll.records' = '5000',
  'scan.startup.mode' = 'earliest-offset',${bounds}
  'format' = 'json',
  'json.ignore-parse-errors' = 'true',
  'json.fail-on-missing-field' = 'false'
);

-- One row a second whose watermark follows the wall clock: when play stops and every partition is idle, the union's
-- watermark is this one, and the last window closes within window + ticker_behind + idle timeout.
-- `never` is at most 0, which the planner cannot know, so it keeps this branch.
CREATE TABLE ticker (
  never INT,
  event_time AS CAST(CURRENT_TIMESTAMP AS TIMESTAMP_LTZ(3)),
  WATERMARK FOR event_time AS event_time - ${ticker_behind}
) WITH (
  'connector' = 'datagen',
  'rows-per-second' = '1',${ticker_rows}
  'scan.parallelism' = '1',
  'fields.never.min' = '0',
  'fields.never.max' = '0'
);

-- One row per chosen answer that has all the fields used below (fits), and per record that is neither that nor an
-- import nor a barrier (does not fit: counted in health.sql). Imports are skipped whatever they hold.
CREATE TEMPORARY VIEW timed AS
SELECT * FROM (
  SELECT ${answer_names}, fits, appended_at, event_time FROM (
    SELECT *, origin IS NOT NULL AND event_id IS NOT NULL AND occurred_at_us IS NOT NULL AND user_id IS NOT NULL
      AND quiz_id IS NOT NULL AND question_id IS NOT NULL AND question_type IS NOT NULL AND correct IS NOT NULL
      AND elapsed_ms IS NOT NULL AND points IS NOT NULL AND COALESCE(points, -1) >= 0 AND ${event_time} AS fits
    FROM answers
    WHERE ${chosen} AND COALESCE(CAST(headers['${header_type}'] AS STRING), '') <> '${barrier_type}'
  )
  UNION ALL
  SELECT ${ticker_nulls}, FALSE, event_time, event_time FROM ticker WHERE never > 0
);

-- One row per answer that fits, and whether its smallest window had closed when it came: it is then in `late`, else
-- in its windows of every length. `merged` is `timed` as one stream, made by submit.py: over the view itself the
-- planner pushes CURRENT_WATERMARK below the union, where it is the source's alone, and rows that only the ticker
-- made late vanish.
CREATE TEMPORARY VIEW judged AS
SELECT *, COALESCE(
  TO_TIMESTAMP_LTZ((occurred_at_us / 1000000 / ${window_s} + 1) * ${window_s} * 1000 - 1, 3)
    <= CURRENT_WATERMARK(event_time), FALSE) AS is_late
FROM merged WHERE fits;

-- One row per answer in time. word: the slug of its first tag `word:SLUG` (contracts.names.word_of), null without. The
-- first three tags are looked at where they are; joining them to a text for a regular expression is left to more.
CREATE TEMPORARY VIEW in_time AS
SELECT quiz_id, user_id, question_id, question_type, correct, GREATEST(elapsed_ms, 0) AS taken_ms, points, occurred_at_us, event_time,
  CASE
    WHEN skill_tags[1] LIKE 'word:%' AND CHAR_LENGTH(skill_tags[1]) > 5 THEN SUBSTRING(skill_tags[1] FROM 6)
    WHEN skill_tags[2] LIKE 'word:%' AND CHAR_LENGTH(skill_tags[2]) > 5 THEN SUBSTRING(skill_tags[2] FROM 6)
    WHEN skill_tags[3] LIKE 'word:%' AND CHAR_LENGTH(skill_tags[3]) > 5 THEN SUBSTRING(skill_tags[3] FROM 6)
    WHEN CARDINALITY(skill_tags) > 3
      THEN REGEXP_EXTRACT(ARRAY_JOIN(skill_tags, U&'\001F'), U&'(?:^|\001F)word:([^\001F]+)', 1)
  END AS word
FROM judged WHERE NOT is_late;

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

INSERT INTO late_answers SELECT ${answer_names} FROM judged WHERE is_late;
