-- title: Titles of which no item is available
SELECT f.film_id, f.title, count(*) AS items FROM film AS f JOIN inventory_status AS i ON i.film_id = f.film_id
 GROUP BY f.film_id, f.title HAVING bool_and(i.status <> 'available') ORDER BY items DESC, f.film_id
