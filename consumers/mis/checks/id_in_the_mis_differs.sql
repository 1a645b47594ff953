-- title: QuickBooks id in the MIS of another customer
-- severity: warning
SELECT c.record, c.known_id, s.quickbooks_id FROM customer AS c JOIN customer_state AS s ON s.record = c.record
 WHERE s.state = 1 AND c.known_id <> s.quickbooks_id
