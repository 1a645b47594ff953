-- title: Busiest days
SELECT rental_date::date AS day, count(*) AS rentals FROM rental GROUP BY 1 ORDER BY rentals DESC, day LIMIT 20
