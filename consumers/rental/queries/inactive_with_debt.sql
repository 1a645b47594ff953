-- title: Inactive customers who owe or have something out
SELECT customer_id, first_name, last_name, balance, unreturned_rentals
  FROM customer_account WHERE NOT active AND (balance > 0 OR unreturned_rentals > 0)
 ORDER BY balance DESC, customer_id
