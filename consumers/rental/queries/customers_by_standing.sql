-- title: Customers by standing
SELECT status, count(*) AS customers, sum(balance) AS balance
  FROM customer_account GROUP BY status ORDER BY status
