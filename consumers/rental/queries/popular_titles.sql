-- title: Titles rented most
SELECT film_id, title, count(*) AS rentals FROM rental_status GROUP BY film_id, title ORDER BY rentals DESC, title LIMIT 20
