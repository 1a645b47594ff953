-- key: customer_id
-- title: Rentals by customer
-- description: How many rentals each customer has had, has out, and has out too long.
SELECT s.customer_id,
       count(*) AS total_rentals,
       count(*) FILTER (WHERE s.status <> 'completed') AS unreturned_rentals,
       count(*) FILTER (WHERE s.status = 'overdue') AS overdue_rentals
  FROM rental_status AS s
 GROUP BY s.customer_id
