-- key: appl_id
-- title: Flags of applicants
-- description: What the MIS should hold of what became of each applicant's customer, and what it holds; nothing of customers never taken up.
SELECT x.appl_id,
       s.state,
       coalesce(nullif(s.pushed_by, ''), v.pushed_by) AS pushed_by,
       -- The MIS's column has whole seconds, of wall time.
       date_trunc('second', s.pushed_at AT TIME ZONE v.time_zone) AS pushed_date,
       coalesce(s.quickbooks_id, x.quickbooks_id) AS quickbooks_id,
       coalesce(s.sync_token, x.sync_token) AS sync_token,
       x.quickbk_status AS source_status,
       x.pushed_by AS source_pushed_by,
       x.pushed_date AS source_pushed_date,
       x.quickbooks_id AS source_quickbooks_id,
       x.sync_token AS source_sync_token
  FROM customer_state AS s
 CROSS JOIN params AS v
  JOIN tbl_online_application AS x ON x.appl_id = s.record_id
 WHERE s.kind = 'applicant' AND s.state <> 0
