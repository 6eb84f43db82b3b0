-- The exact board: every user's row number on every board of the view `totals`. Run unchanged by Spark and DuckDB.
-- Home of the order: contracts/ranking.py; tests/vectors hold both.
-- totals: one row per (period, start, zone, scope, user_id): user_no, points, reached_at_us (UTC µs, not floored, null
--   at 0 points), anchor_us and tick_us of that board (UTC µs, µs).
-- Result: one row per row of totals, with rank 1..n in each board. Running it again gives the same rows.
SELECT
  period, start, zone, scope,
  row_number() OVER (
    PARTITION BY period, start, zone, scope
    -- points down, reached_at up, user_id down by bytes (both engines compare strings as bytes)
    ORDER BY points DESC, coalesce(floored_us, 0) ASC, user_id DESC
  ) AS rank,
  user_id, user_no, points, floored_us AS reached_at_us
FROM (
  -- one row per user and board, reached_at clamped to 0 … 2^22 - 1 ticks and floored to the tick
  SELECT
    period, start, zone, scope, user_id, user_no, points,
    CASE WHEN points > 0 THEN (
      anchor_tick + CASE
        WHEN reached_tick - anchor_tick < 0 THEN 0
        WHEN reached_tick - anchor_tick > 4194303 THEN 4194303
        ELSE reached_tick - anchor_tick END
    ) * tick_us END AS floored_us
  FROM (
    -- one row per user and board; pmod-style floor division, right for instants before 1970 too
    SELECT
      period, start, zone, scope, user_id, user_no, points, tick_us,
      CAST((anchor_us - ((anchor_us % tick_us) + tick_us) % tick_us) / tick_us AS BIGINT) AS anchor_tick,
      CAST((reached_at_us - ((reached_at_us % tick_us) + tick_us) % tick_us) / tick_us AS BIGINT) AS reached_tick
    FROM totals
  ) AS in_ticks
) AS floored
