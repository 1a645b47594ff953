-- title: Item or film of a rental is missing
-- severity: error
SELECT rental_id, inventory_id, film_id FROM rental_status WHERE due_at IS NULL
