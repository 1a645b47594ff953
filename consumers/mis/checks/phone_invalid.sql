-- title: Phone that is no number and is left out
-- severity: warning
SELECT record, phone FROM customer WHERE length(phone) > 30 OR phone !~ '[0-9]'
