-- title: Customers whose name in QuickBooks is not their own
SELECT record, real_name, display_name FROM customer_state
 WHERE display_name IS NOT NULL AND display_name <> real_name ORDER BY record COLLATE "C"
