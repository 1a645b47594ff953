-- key: store_id
-- title: Rentals by store
-- description: Rentals of each store's items, those out and those out too long; store 0: the item is not known.
SELECT coalesce(s.store_id, 0) AS store_id,
       count(*) AS total_rentals,
       count(*) FILTER (WHERE s.status <> 'completed') AS open_rentals,
       count(*) FILTER (WHERE s.status = 'overdue') AS overdue_rentals
  FROM rental_status AS s
 GROUP BY coalesce(s.store_id, 0)
