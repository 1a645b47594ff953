-- title: Customers who owe most
SELECT customer_id, first_name, last_name, balance, overdue_rentals, status
  FROM customer_account WHERE balance > 0 ORDER BY balance DESC, customer_id LIMIT 20
