-- key: block
-- title: Inventory by block
-- description: Items of each status among 256 neighbours, so that the totals of all cost little to keep.
SELECT i.inventory_id / 256 AS block,
       count(*) FILTER (WHERE i.status = 'available') AS items_available,
       count(*) FILTER (WHERE i.status = 'rented') AS items_rented,
       count(*) FILTER (WHERE i.status = 'damaged') AS items_damaged,
       count(*) FILTER (WHERE i.status = 'missing') AS items_missing
  FROM inventory_status AS i
 GROUP BY i.inventory_id / 256
