-- key: inventory_id
-- title: Items out
-- description: For each item that is out: since when, and for how many rentals at once (more than one is a mistake).
SELECT r.inventory_id, count(*) AS open_rentals, min(r.rental_date) AS oldest
  FROM rental AS r
 WHERE r.return_date IS NULL
 GROUP BY r.inventory_id
