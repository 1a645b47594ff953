-- key: appl_id
-- title: Flags of applicants to write back
-- description: Applicants whose flags in the MIS are not what became of their customer.
SELECT f.appl_id,
       f.state,
       f.pushed_by,
       f.pushed_date,
       f.quickbooks_id,
       f.sync_token,
       f.source_status,
       f.source_pushed_by,
       f.source_pushed_date,
       f.source_quickbooks_id,
       f.source_sync_token
  FROM applicant_flags AS f
 WHERE coalesce(f.source_status, 0) <> f.state
    OR f.source_pushed_by IS DISTINCT FROM f.pushed_by
    OR f.source_pushed_date IS DISTINCT FROM f.pushed_date
    OR f.source_quickbooks_id IS DISTINCT FROM f.quickbooks_id
    OR f.source_sync_token IS DISTINCT FROM f.sync_token
