-- key: record
-- history: state AS customer_audit
-- title: State of customers
-- description: What became of each customer: 0 not synced, 3 in progress, 1 synced, 2 failed with the reason; pending where QuickBooks is to follow.
SELECT c.record,
       c.kind,
       c.record_id,
       c.real_name,
       coalesce(p.state, 0) AS state,
       p.fingerprint IS DISTINCT FROM c.fingerprint AS is_pending,
       p.realm_id,
       p.quickbooks_id,
       p.sync_token,
       p.display_name,
       p.reason,
       p.pushed_by,
       p.pushed_at
  FROM customer AS c
  LEFT JOIN pushed AS p ON p.record = c.record
