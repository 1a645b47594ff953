-- title: Inventory
-- section: Totals
SELECT count(*) AS items, count(*) FILTER (WHERE i.status IN ('damaged', 'missing')) AS shrunk,
       coalesce(sum(f.replacement_cost) FILTER (WHERE i.status IN ('damaged', 'missing')), 0) AS shrunk_cost
  FROM inventory_status AS i LEFT JOIN film AS f ON f.film_id = i.film_id;
-- section: By status
SELECT status, count(*) AS items FROM inventory_status GROUP BY status ORDER BY status;
-- section: Shrinkage
SELECT i.store_id, i.status, count(*) AS items, coalesce(sum(f.replacement_cost), 0) AS cost
  FROM inventory_status AS i LEFT JOIN film AS f ON f.film_id = i.film_id WHERE i.status IN ('damaged', 'missing')
 GROUP BY i.store_id, i.status ORDER BY i.store_id, i.status;
