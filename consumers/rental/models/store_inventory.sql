-- key: store_id
-- title: Inventory by store
-- description: Each store's items by status.
SELECT i.store_id,
       count(*) AS items,
       count(*) FILTER (WHERE i.status = 'available') AS items_available,
       count(*) FILTER (WHERE i.status = 'rented') AS items_rented,
       count(*) FILTER (WHERE i.status = 'damaged') AS items_damaged,
       count(*) FILTER (WHERE i.status = 'missing') AS items_missing
  FROM inventory_status AS i
 GROUP BY i.store_id
