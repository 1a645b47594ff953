-- title: Rentals by weekday
SELECT extract(isodow FROM rental_date)::integer AS weekday, count(*) AS rentals FROM rental GROUP BY 1 ORDER BY 1
