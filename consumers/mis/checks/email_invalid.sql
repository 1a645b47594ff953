-- title: E-mail that is no address and is left out
-- severity: warning
SELECT record, email FROM customer
 WHERE length(email) > 100 OR email !~ '^[^@[:space:],;]+@[^@[:space:],;]+[.][^@[:space:],;]+$'
