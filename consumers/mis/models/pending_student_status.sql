-- key: per_id_ug
-- title: Flags of students to write back
-- description: Students whose flags in the MIS are not what became of their customer.
SELECT f.per_id_ug,
       f.state,
       f.pushed_by,
       f.pushed_date,
       f.qk_id,
       f.sync_token,
       f.source_status,
       f.source_pushed_by,
       f.source_pushed_date,
       f.source_qk_id,
       f.source_sync_token
  FROM student_flags AS f
 WHERE coalesce(f.source_status, 0) <> f.state
    OR f.source_pushed_by IS DISTINCT FROM f.pushed_by
    OR f.source_pushed_date IS DISTINCT FROM f.pushed_date
    OR f.source_qk_id IS DISTINCT FROM f.qk_id
    OR f.source_sync_token IS DISTINCT FROM f.sync_token
