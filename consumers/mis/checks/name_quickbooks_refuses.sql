-- title: Name that QuickBooks does not take as it is
-- severity: warning
SELECT record, real_name FROM customer
 WHERE real_name LIKE '%:%' OR length(real_name) > 500
    OR greatest(length(given_name), length(middle_name), length(family_name)) > 100
