-- title: Customers suspended
SELECT customer_id, first_name, last_name, overdue_rentals, balance
  FROM customer_account WHERE status = 'suspended' ORDER BY overdue_rentals DESC, customer_id
