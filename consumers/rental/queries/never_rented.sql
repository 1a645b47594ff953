-- title: Items never rented
SELECT i.inventory_id, f.title, i.store_id FROM inventory AS i LEFT JOIN film AS f ON f.film_id = i.film_id
 WHERE NOT EXISTS (SELECT 1 FROM rental AS r WHERE r.inventory_id = i.inventory_id) ORDER BY i.inventory_id
