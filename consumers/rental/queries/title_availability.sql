-- title: Availability of a title
-- parameters: title=A%
SELECT i.store_id, i.status, count(*) AS items FROM inventory_status AS i JOIN film AS f ON f.film_id = i.film_id
 WHERE f.title ILIKE :title GROUP BY i.store_id, i.status ORDER BY i.store_id, i.status
