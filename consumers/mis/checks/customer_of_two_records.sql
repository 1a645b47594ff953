-- title: One customer of QuickBooks for two records
-- severity: error
SELECT realm_id, quickbooks_id, count(*) AS records, min(record) AS first_record, max(record) AS last_record
  FROM pushed WHERE quickbooks_id IS NOT NULL GROUP BY realm_id, quickbooks_id HAVING count(*) > 1
