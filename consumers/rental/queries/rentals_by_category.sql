-- title: Rentals and lateness by category
SELECT coalesce(c.name, '(none)') AS category, count(*) AS rentals, count(l.rental_id) AS late,
       coalesce(sum(l.fee_amount), 0) AS fees
  FROM rental_status AS s
  LEFT JOIN film_category AS x ON x.film_id = s.film_id
  LEFT JOIN category AS c ON c.category_id = x.category_id
  LEFT JOIN late_fees AS l ON l.rental_id = s.rental_id
 GROUP BY 1 ORDER BY rentals DESC, category
