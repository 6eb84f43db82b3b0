-- What grows: the quizzes and words whose share of all play in the last ten minutes is most surely above their own past.
--
-- Parameters (string.Template): bootstrap; trending = topic; ten_s, ten_slide_s, past_s (seconds; past_s = a multiple of
--   ten_s); least_plays, least_score; end_s = an expression in UTC s. Reads `tens` of top_k.sql.
-- A repeat is harmless: the topic is compacted by (kind, window_start_us, place).
-- Score: Li & Ma 1983 (Astrophysical Journal 272:317), equation 17: how many standard deviations `x` plays in the window
--   (on) are above what `y` plays in the hour before it (off) let expect, by the ratio of two Poisson likelihoods:
--     S = sqrt(2) · sqrt(x · ln((1+a)/a · x/(x+y)) + y · ln((1+a) · y/(x+y))),  x > a·y,
--   with a = X/Y, all plays of the kind in the window by those in the past: what grows only as everything grows (the
--   morning) scores 0, and so does what is large and steady. No past (y = 0) is a past of nothing, not an error; the
--   formula holds for small counts, where a z-score of two means does not. Twin: tests/flink_jobs/model.py.

CREATE TABLE trending (
  kind STRING,
  window_start_us BIGINT,
  place BIGINT,
  window_end_us BIGINT,
  subject_id STRING,
  plays BIGINT,
  expected DOUBLE,
  score DOUBLE
) WITH (
  'connector' = 'kafka',
  'topic' = '${trending}',
  'properties.bootstrap.servers' = '${bootstrap}',
  'key.format' = 'json',
  'key.fields' = 'kind;window_start_us;place',
  'value.format' = 'json',
  'value.fields-include' = 'ALL',
  'sink.delivery-guarantee' = 'at-least-once'
);

-- One row per (ten minutes every two, kind, subject) with play. phase: windows of one phase follow one another without
-- overlap, so the sum over them below takes each answer once.
CREATE TEMPORARY VIEW played AS
SELECT ten_time, kind, subject_id, plays, MOD(${end_s}, ${ten_s}) AS phase
FROM tens WHERE kind = 'quizzes' OR kind = 'words';

-- One row per row of `played`: with_past = plays of this window and of those of its phase in the past_s before it. A
-- window without play has no row and adds nothing.
CREATE TEMPORARY VIEW grown AS
SELECT ten_time, kind, subject_id, plays, SUM(plays) OVER (PARTITION BY kind, subject_id, phase ORDER BY ten_time
  RANGE BETWEEN ${past} PRECEDING AND CURRENT ROW) AS with_past
FROM played;

-- One row per (ten minutes every two, kind): the same of all subjects together.
CREATE TEMPORARY VIEW all_grown AS
SELECT ten_time, kind, plays, SUM(plays) OVER (PARTITION BY kind, phase ORDER BY ten_time
  RANGE BETWEEN ${past} PRECEDING AND CURRENT ROW) AS with_past
FROM (
  SELECT ten_time, kind, plays, MOD(${end_s}, ${ten_s}) AS phase FROM (
    SELECT window_time AS ten_time, kind, SUM(plays) AS plays
    FROM TABLE(TUMBLE(TABLE played, DESCRIPTOR(ten_time), ${ten_slide}))
    GROUP BY window_start, window_end, window_time, kind
  )
);

-- One row per subject with enough plays: x, y of the subject and all_x, all_y of its kind, as in the formula.
CREATE TEMPORARY VIEW compared AS
SELECT subject.window_start, subject.window_end, subject.kind, subject.subject_id, subject.plays,
  CAST(subject.plays AS DOUBLE) AS x, CAST(subject.with_past - subject.plays AS DOUBLE) AS y,
  CAST(everything.plays AS DOUBLE) AS all_x, CAST(everything.with_past - everything.plays AS DOUBLE) AS all_y
FROM (
  SELECT * FROM TABLE(TUMBLE(TABLE grown, DESCRIPTOR(ten_time), ${ten_slide}))
  WHERE plays >= ${least_plays}
) AS subject
JOIN (
  SELECT * FROM TABLE(TUMBLE(TABLE all_grown, DESCRIPTOR(ten_time), ${ten_slide}))
) AS everything
ON subject.window_start = everything.window_start AND subject.window_end = everything.window_end
  AND subject.kind = everything.kind;

-- One row per subject that grew, with its score; GREATEST: rounding may leave a hair below 0.
CREATE TEMPORARY VIEW scored AS
SELECT window_start, window_end, kind, subject_id, plays, y * all_x / all_y AS expected,
  SQRT(2 * GREATEST(CAST(0 AS DOUBLE),
    x * LN((all_x + all_y) / all_x * x / (x + y))
    + CASE WHEN y > 0 THEN y * LN((all_x + all_y) / all_y * y / (x + y)) ELSE CAST(0 AS DOUBLE) END)) AS score
FROM compared WHERE all_y > 0 AND x * all_y > y * all_x;

INSERT INTO trending
SELECT kind, ${window_end_us} - ${ten_s} * 1000000, place, ${window_end_us}, subject_id, plays, expected, score
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, kind
    ORDER BY score DESC, plays DESC, subject_id DESC) AS place
  FROM scored WHERE score >= ${least_score}
) WHERE place <= 10;
