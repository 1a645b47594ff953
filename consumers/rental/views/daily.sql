-- title: Days
-- description: The closed days and the one that runs.
SELECT * FROM daily_summary
 UNION ALL
SELECT * FROM today AS t WHERE NOT EXISTS (SELECT 1 FROM daily_summary AS d WHERE d.day = t.day)
