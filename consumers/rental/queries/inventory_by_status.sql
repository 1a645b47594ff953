-- title: Inventory by store and status
SELECT store_id, status, count(*) AS items FROM inventory_status GROUP BY store_id, status ORDER BY store_id, status
