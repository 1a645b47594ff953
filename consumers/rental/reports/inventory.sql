-- title: Inventory
-- section: Totals
SELECT count(*) AS items, count(*) FILTER (WHERE status IN ('damaged', 'missing')) AS shrunk FROM inventory_status;
-- section: By status
SELECT status, count(*) AS items FROM inventory_status GROUP BY status ORDER BY status;
-- section: Shrinkage
SELECT i.store_id, i.status, count(*) AS items, sum(f.replacement_cost) AS cost
  FROM inventory_status AS i JOIN film AS f ON f.film_id = i.film_id WHERE i.status IN ('damaged', 'missing')
 GROUP BY i.store_id, i.status ORDER BY i.store_id, i.status;
