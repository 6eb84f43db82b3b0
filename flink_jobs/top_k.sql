-- What is hot: the top 10 of users (global, each quiz), quizzes by plays, and questions, words and types by misses, in
-- windows of a minute, ten minutes, an hour, and the day so far.
--
-- Parameters (string.Template): bootstrap; topk, topk_quizzes = topics; window, ten, ten_slide, hour, day = intervals (ten
--   is also the slide of the hour and the step of the day); window_s, ten_s in seconds; buckets; end_s = an expression in
--   UTC s; window_start_us, window_end_us, minute_end_us, ten_end_us = expressions in UTC µs.
-- A repeat is harmless: the topic is compacted by (kind, scope, level, window_start_us, place), at least once. The sink
--   is plain `kafka` with a key, not `upsert-kafka`: each row is final when it is written, and the planner refuses the
--   plain one should a query ever turn into a changelog. A day's rows are written again at each step, under the same
--   keys. Order of users is that of contracts/ranking.py: points down, reached_at (tick 1 s) up, user_id down; of the
--   others: amount down, id down.
-- An answer costs two additions (minute_players, minute_questions); everything longer is summed from these minutes. What
--   may fall on few keys is summed twice, in the task where rows arise and then by key; what is spread over players
--   already, once (statements.WALLS). The ranking of all play is made within ${buckets} buckets of subjects and then of
--   their winners; that of a quiz, of its players in one go, since each key of a ranking costs a search in RocksDB. So
--   a quiz that everybody plays sends a task its players once a minute, not its answers.

CREATE TABLE top_k (
  kind STRING,
  `scope` STRING,
  `level` STRING,
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
  'properties.compression.type' = 'gzip',
  'properties.linger.ms' = '20',
  'key.format' = 'json',
  'key.fields' = 'kind;scope;level;window_start_us;place',
  'value.format' = 'json',
  'value.fields-include' = 'ALL',
  'sink.delivery-guarantee' = 'at-least-once'
);

-- The same of each quiz: a topic of its own, since a replica of the first one would else load every quiz of two days.
CREATE TABLE top_k_quizzes WITH ('topic' = '${topk_quizzes}') LIKE top_k;

-- One row per (minute, quiz, user). Here and below submit.py makes of `X_summed` the stream `X` (statements.WALLS): as
-- views they would be summed again for each of their readers, each with the columns that it needs.
CREATE TEMPORARY VIEW minute_players_summed AS
SELECT window_time AS part_time, quiz_id, user_id, COUNT(*) AS plays, SUM(points) AS points,
  MAX(CASE WHEN points > 0 THEN occurred_at_us / 1000000 END) AS reached_s
FROM TABLE(TUMBLE(TABLE in_time, DESCRIPTOR(event_time), ${window}))
GROUP BY window_start, window_end, window_time, quiz_id, user_id;

-- One row per (minute, quiz, its question, type and word), also where nobody missed it. Quizzes number their questions.
CREATE TEMPORARY VIEW minute_questions_summed AS
SELECT window_time AS part_time, quiz_id, question_id, question_type, word, COUNT(*) AS plays,
  SUM(CASE WHEN correct THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END) AS misses
FROM TABLE(TUMBLE(TABLE in_time, DESCRIPTOR(event_time), ${window}))
GROUP BY window_start, window_end, window_time, quiz_id, question_id, question_type, word;

-- Several rows per (minute, kind, subject): summands over all quizzes. amount: points, plays or misses by kind. Subjects
-- are those of contracts.sketched.subject_of.
CREATE TEMPORARY VIEW parts AS
SELECT part_time, 'users' AS kind, user_id AS subject_id, points AS amount, plays, CAST(0 AS BIGINT) AS misses, reached_s
FROM minute_players
UNION ALL
SELECT part_time, 'quizzes', quiz_id, plays, plays, misses, CAST(NULL AS BIGINT) FROM minute_questions
UNION ALL
SELECT part_time, 'questions', CONCAT(quiz_id, '/', question_id), misses, plays, misses, CAST(NULL AS BIGINT)
FROM minute_questions
UNION ALL
SELECT part_time, 'types', question_type, misses, plays, misses, CAST(NULL AS BIGINT) FROM minute_questions
UNION ALL
SELECT part_time, 'words', word, misses, plays, misses, CAST(NULL AS BIGINT) FROM minute_questions
WHERE word IS NOT NULL;

-- One row per (minute, kind, subject).
CREATE TEMPORARY VIEW minutes_summed AS
SELECT window_time AS minute_time, kind, subject_id, SUM(amount) AS amount, SUM(plays) AS plays,
  SUM(misses) AS misses, MAX(reached_s) AS reached_s
FROM TABLE(TUMBLE(TABLE parts, DESCRIPTOR(part_time), ${window}))
GROUP BY window_start, window_end, window_time, kind, subject_id;

-- One row per (minute, kind, scope, subject): those, and each quiz' players, of whom there is one row each already.
CREATE TEMPORARY VIEW scoped AS
SELECT minute_time, kind, 'global' AS `scope`, subject_id, amount, plays, reached_s FROM minutes
UNION ALL
SELECT part_time, 'users', CONCAT('quiz:', quiz_id), user_id, points, plays, reached_s FROM minute_players;

-- One row per (ten minutes every two, kind, scope, subject).
CREATE TEMPORARY VIEW tens_summed AS
SELECT window_time AS ten_time, kind, `scope`, subject_id,
  SUM(amount) AS amount, SUM(plays) AS plays, MAX(reached_s) AS reached_s
FROM TABLE(HOP(TABLE scoped, DESCRIPTOR(minute_time), ${ten_slide}, ${ten}))
GROUP BY window_start, window_end, window_time, kind, `scope`, subject_id;

-- Those of `tens` that follow one another without overlap: what longer windows are summed from.
CREATE TEMPORARY VIEW whole_tens AS
SELECT ten_time, kind, `scope`, subject_id, amount, reached_s FROM tens WHERE MOD(${end_s}, ${ten_s}) = 0;

-- One row per (hour every ten minutes, kind, scope, subject).
CREATE TEMPORARY VIEW hours_summed AS
SELECT window_time AS hour_time, ${window_start_us} AS window_start_us, kind, `scope`, subject_id, SUM(amount) AS amount,
  MAX(reached_s) AS reached_s
FROM TABLE(HOP(TABLE whole_tens, DESCRIPTOR(ten_time), ${ten}, ${hour}))
GROUP BY window_start, window_end, window_time, kind, `scope`, subject_id;

-- One row per (UTC day so far every ten minutes, kind, scope, subject).
CREATE TEMPORARY VIEW days_summed AS
SELECT window_time AS day_time, ${window_start_us} AS window_start_us, kind, `scope`, subject_id, SUM(amount) AS amount,
  MAX(reached_s) AS reached_s
FROM TABLE(CUMULATE(TABLE whole_tens, DESCRIPTOR(ten_time), ${ten}, ${day}))
GROUP BY window_start, window_end, window_time, kind, `scope`, subject_id;

-- One row per (window of any length, kind, scope, subject). `level` and its start tell lengths apart; sum_time = 1 ms
-- before its end.
CREATE TEMPORARY VIEW sums AS
SELECT minute_time AS sum_time, 'minute' AS `level`, ${minute_end_us} - ${window_s} * 1000000 AS window_start_us,
  kind, `scope`, subject_id, amount, reached_s
FROM scoped
UNION ALL
SELECT ten_time, 'ten_minutes', ${ten_end_us} - ${ten_s} * 1000000, kind, `scope`, subject_id, amount, reached_s
FROM tens
UNION ALL
SELECT hour_time, 'hour', window_start_us, kind, `scope`, subject_id, amount, reached_s FROM hours
UNION ALL
SELECT day_time, 'day', window_start_us, kind, `scope`, subject_id, amount, reached_s FROM days;

-- One row per (window of any length, kind, scope, place). Sums have no window any more: all that end together are put
-- into the minute in which they do.
CREATE TEMPORARY VIEW ranked AS
SELECT kind, `scope`, `level`, window_start_us, place, ${window_end_us} AS window_end_us, subject_id, amount,
  reached_s * 1000000 AS reached_at_us
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, `level`, window_start_us, kind, `scope`
    ORDER BY amount DESC, COALESCE(reached_s, 0) ASC, subject_id DESC) AS place
  FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, `level`, window_start_us, kind, `scope`, bucket
      ORDER BY amount DESC, COALESCE(reached_s, 0) ASC, subject_id DESC) AS bucket_place
    FROM (
      SELECT window_start, window_end, `level`, window_start_us, kind, `scope`, subject_id, amount, reached_s,
        CASE `scope` WHEN 'global' THEN MOD(HASH_CODE(subject_id), ${buckets}) ELSE 0 END AS bucket
      FROM TABLE(TUMBLE(TABLE sums, DESCRIPTOR(sum_time), ${window}))
    ) WHERE amount > 0 OR kind = 'users'
  ) WHERE bucket_place <= 10
) WHERE place <= 10;
INSERT INTO top_k SELECT * FROM ranked WHERE `scope` = 'global';
INSERT INTO top_k_quizzes SELECT * FROM ranked WHERE `scope` <> 'global';
