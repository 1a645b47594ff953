-- title: Two open rentals of one item
-- severity: error
SELECT inventory_id, count(*) AS open_rentals, min(rental_id) AS first_rental, max(rental_id) AS last_rental
  FROM rental WHERE return_date IS NULL GROUP BY inventory_id HAVING count(*) > 1
