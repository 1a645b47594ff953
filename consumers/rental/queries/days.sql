-- title: Daily summary
SELECT day, open_rentals, overdue_rentals, fees_accrued, fees_collected, receivable FROM daily ORDER BY day DESC
