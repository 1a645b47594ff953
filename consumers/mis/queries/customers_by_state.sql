-- title: Customers by kind and state
SELECT kind, total, not_synced, synced, failed, in_progress, pending FROM customer_totals ORDER BY kind
