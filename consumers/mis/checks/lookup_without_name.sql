-- title: Campus, programme or the like without a name
-- severity: warning
SELECT 'tbl_campus' AS lookup, camp_id AS id FROM tbl_campus
 WHERE coalesce(btrim(camp_full_name), '') = '' AND coalesce(btrim(camp_short_name), '') = ''
 UNION ALL
SELECT 'tbl_intake', intake_id FROM tbl_intake WHERE coalesce(btrim(intake_month), '') = '' AND intake_no IS NULL
 UNION ALL
SELECT 'tbl_level', level_id FROM tbl_level
 WHERE coalesce(btrim(level_full_name), '') = '' AND coalesce(btrim(level_short_name), '') = ''
 UNION ALL
SELECT 'tbl_specialization', splz_id FROM tbl_specialization
 WHERE coalesce(btrim(splz_full_name), '') = '' AND coalesce(btrim(splz_short_name), '') = ''
 UNION ALL
SELECT 'tbl_program_mode', prg_mode_id FROM tbl_program_mode
 WHERE coalesce(btrim(prg_mode_full_name), '') = '' AND coalesce(btrim(prg_mode_short_name), '') = ''
 UNION ALL
SELECT 'tbl_program_type', prg_type_id FROM tbl_program_type
 WHERE coalesce(btrim(prg_type_full_name), '') = '' AND coalesce(btrim(prg_type_short_name), '') = ''
 UNION ALL
SELECT 'tbl_country', cntr_id FROM tbl_country WHERE coalesce(btrim(cntr_name), '') = ''
