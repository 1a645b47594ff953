-- title: Rentals and lateness by category
SELECT c.name AS category, count(*) AS rentals, count(l.rental_id) AS late, sum(l.fee_amount) AS fees
  FROM rental_status AS s JOIN film_category AS x ON x.film_id = s.film_id JOIN category AS c ON c.category_id = x.category_id
  LEFT JOIN late_fees AS l ON l.rental_id = s.rental_id GROUP BY c.name ORDER BY rentals DESC
