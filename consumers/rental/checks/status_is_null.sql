-- title: Item without a status in the source
-- severity: warning
SELECT inventory_id, film_id, store_id FROM inventory WHERE status IS NULL
