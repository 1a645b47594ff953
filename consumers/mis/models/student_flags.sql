-- key: per_id_ug
-- title: Flags of students
-- description: What the MIS should hold of what became of each student's customer, and what it holds; nothing of customers never taken up.
SELECT x.per_id_ug,
       s.state,
       coalesce(nullif(s.pushed_by, ''), v.pushed_by) AS pushed_by,
       -- The MIS's column has whole seconds, of wall time.
       date_trunc('second', s.pushed_at AT TIME ZONE v.time_zone) AS pushed_date,
       coalesce(s.quickbooks_id, x.qk_id) AS qk_id,
       coalesce(s.sync_token, x.sync_token) AS sync_token,
       x.quickbk_status AS source_status,
       x.pushed_by AS source_pushed_by,
       x.pushed_date AS source_pushed_date,
       x.qk_id AS source_qk_id,
       x.sync_token AS source_sync_token
  FROM customer_state AS s
 CROSS JOIN params AS v
  JOIN tbl_personal_ug AS x ON x.per_id_ug = s.record_id
 WHERE s.kind = 'student' AND s.state <> 0
