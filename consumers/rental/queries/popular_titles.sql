-- title: Titles rented most
SELECT film_id, title, count(*) AS rentals FROM rental_status WHERE title IS NOT NULL
 GROUP BY film_id, title ORDER BY rentals DESC, film_id LIMIT 20
