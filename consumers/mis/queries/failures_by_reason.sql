-- title: Failures by reason
SELECT coalesce(reason, '(none)') AS reason, count(*) AS customers FROM customer_state WHERE state = 2
 GROUP BY 1 ORDER BY customers DESC, reason
