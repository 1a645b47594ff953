-- key: inventory_id
-- title: Statuses to write back
-- description: Items whose status in the source is not what their rentals say. Damaged and missing are people's words: neither overwritten nor written.
SELECT s.inventory_id,
       s.status,
       s.source_status
  FROM inventory_status AS s
 WHERE s.status IN ('available', 'rented')
   AND (s.source_status IS NULL
        OR (s.source_status <> s.status AND s.source_status NOT IN ('damaged', 'missing')))
