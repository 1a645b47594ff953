-- title: Flags that the MIS does not hold yet
SELECT 'applicant:' || appl_id::text AS record, source_status, state, pushed_date FROM pending_applicant_status
 UNION ALL
SELECT 'student:' || per_id_ug::text, source_status, state, pushed_date FROM pending_student_status ORDER BY 1
