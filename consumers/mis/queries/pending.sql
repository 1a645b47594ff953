-- title: Customers to push
SELECT p.record, p.kind, p.real_name, p.state, p.quickbooks_id FROM pending_customer AS p ORDER BY p.kind, p.record_id
