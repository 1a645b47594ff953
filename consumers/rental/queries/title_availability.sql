-- title: Availability of a title by store
-- parameters: title=A%
SELECT f.film_id, f.title, i.store_id, count(*) AS items, count(*) FILTER (WHERE i.status = 'available') AS available
  FROM inventory_status AS i JOIN film AS f ON f.film_id = i.film_id
 WHERE f.title ILIKE :title GROUP BY f.film_id, f.title, i.store_id ORDER BY f.film_id, i.store_id
