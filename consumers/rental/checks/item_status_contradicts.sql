-- title: Status of an item contradicts its rentals
-- severity: warning
SELECT i.inventory_id, i.source_status, i.status, i.open_rentals
  FROM inventory_status AS i
 WHERE (i.source_status = 'available' AND i.open_rentals > 0) OR (i.source_status = 'rented' AND i.open_rentals = 0)
