-- key: record
-- title: Customers to push
-- description: Customers that QuickBooks does not hold as they should be, as far as the push has told.
SELECT c.record, c.kind, c.record_id, c.real_name, c.fingerprint, p.fingerprint AS pushed_fingerprint, p.quickbooks_id, p.state
  FROM customer AS c
  LEFT JOIN pushed AS p ON p.record = c.record
 WHERE p.fingerprint IS DISTINCT FROM c.fingerprint
