-- title: Shrinkage at replacement cost
SELECT i.store_id, i.status, count(*) AS items, coalesce(sum(f.replacement_cost), 0) AS cost
  FROM inventory_status AS i LEFT JOIN film AS f ON f.film_id = i.film_id WHERE i.status IN ('damaged', 'missing')
 GROUP BY i.store_id, i.status ORDER BY i.store_id, i.status
