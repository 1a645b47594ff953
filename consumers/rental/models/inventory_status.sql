-- key: inventory_id
-- changes_at: next_change_at
-- history: status AS inventory_audit
-- title: Inventory
-- description: Where each item is. What people set in the source (damaged, missing) wins over what the rentals say.
SELECT i.inventory_id,
       i.film_id,
       i.store_id,
       i.status AS source_status,
       CASE
           WHEN i.status IN ('damaged', 'missing') THEN i.status
           WHEN (c.now AT TIME ZONE p.time_zone)::date
                - (o.oldest + f.rental_duration * interval '1 day')::date > p.missing_after_days THEN 'missing'
           WHEN o.inventory_id IS NOT NULL THEN 'rented'
           ELSE 'available'
       END AS status,
       coalesce(o.open_rentals, 0) AS open_rentals,
       CASE
           WHEN (c.now AT TIME ZONE p.time_zone)::date
                - (o.oldest + f.rental_duration * interval '1 day')::date <= p.missing_after_days
               THEN least(
                   ((o.oldest + f.rental_duration * interval '1 day')::date + p.missing_after_days + 1)::timestamp
                       AT TIME ZONE p.time_zone,
                   (((o.oldest + f.rental_duration * interval '1 day')::date + p.missing_after_days + 1)::timestamp
                       - interval '1 hour') AT TIME ZONE p.time_zone + interval '1 hour'
               )
       END AS next_change_at
  FROM inventory AS i
 CROSS JOIN clock AS c
 CROSS JOIN params AS p
  LEFT JOIN film AS f ON f.film_id = i.film_id
  LEFT JOIN open_rentals AS o ON o.inventory_id = i.inventory_id
