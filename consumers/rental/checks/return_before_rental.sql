-- title: Return before rental
-- severity: error
SELECT rental_id, rental_date, return_date FROM rental WHERE return_date < rental_date
