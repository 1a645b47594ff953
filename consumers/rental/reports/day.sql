-- title: Days
-- section: Today
SELECT * FROM today;
-- section: Closed days
SELECT * FROM daily_summary ORDER BY day DESC;
