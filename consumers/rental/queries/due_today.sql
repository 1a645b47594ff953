-- title: Rentals due today
SELECT s.rental_id, s.customer_id, s.last_name, s.title, s.due_at
  FROM rental_status AS s CROSS JOIN clock AS c CROSS JOIN params AS p
 WHERE s.return_date IS NULL AND s.due_at::date = (c.now AT TIME ZONE p.time_zone)::date
 ORDER BY s.due_at, s.rental_id
