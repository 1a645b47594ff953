-- title: Rentals
-- description: The rentals under the name that reports use.
SELECT * FROM rental_status
