-- key: rental_id
-- changes_at: next_change_at
-- title: Rentals
-- description: Every rental with its due time and whether it is completed, overdue or active.
SELECT r.rental_id,
       r.customer_id,
       cu.first_name,
       cu.last_name,
       r.inventory_id,
       i.store_id,
       i.film_id,
       f.title,
       f.rental_rate,
       r.rental_date,
       r.rental_date + f.rental_duration * interval '1 day' AS due_at,
       r.return_date,
       CASE
           WHEN r.return_date IS NOT NULL THEN 'completed'
           WHEN (r.rental_date + f.rental_duration * interval '1 day')::date < (c.now AT TIME ZONE p.time_zone)::date
               THEN 'overdue'
           ELSE 'active'
       END AS status,
       greatest(
           coalesce(r.return_date::date, (c.now AT TIME ZONE p.time_zone)::date)
           - (r.rental_date + f.rental_duration * interval '1 day')::date,
           0
       ) AS days_overdue,
       -- While out, a row changes at the midnight that ends its due day, and at each midnight after it. Where the hour
       -- before or after midnight comes twice or not at all, counting from either side tells the first moment of the day.
       CASE
           WHEN r.return_date IS NULL THEN least(
               (greatest(
                   (r.rental_date + f.rental_duration * interval '1 day')::date,
                   (c.now AT TIME ZONE p.time_zone)::date
               ) + 1)::timestamp AT TIME ZONE p.time_zone,
               ((greatest(
                   (r.rental_date + f.rental_duration * interval '1 day')::date,
                   (c.now AT TIME ZONE p.time_zone)::date
               ) + 1)::timestamp - interval '1 hour') AT TIME ZONE p.time_zone + interval '1 hour'
           )
       END AS next_change_at
  FROM rental AS r
 CROSS JOIN clock AS c
 CROSS JOIN params AS p
  LEFT JOIN inventory AS i ON i.inventory_id = r.inventory_id
  LEFT JOIN film AS f ON f.film_id = i.film_id
  LEFT JOIN customer AS cu ON cu.customer_id = r.customer_id
