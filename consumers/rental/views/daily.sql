-- title: Days
-- description: The closed days and the one that runs.
SELECT * FROM daily_summary UNION ALL SELECT * FROM today
