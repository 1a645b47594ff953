-- title: Return in the future
-- severity: error
SELECT r.rental_id, r.return_date FROM rental AS r CROSS JOIN clock AS c CROSS JOIN params AS p
 WHERE r.return_date > c.now AT TIME ZONE p.time_zone
