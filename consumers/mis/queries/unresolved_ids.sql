-- title: Ids that resolve to nothing
SELECT field, id, count(*) AS customers, min(record COLLATE "C") AS first_record FROM v_unresolved
 GROUP BY field, id ORDER BY customers DESC, field, id COLLATE "C"
