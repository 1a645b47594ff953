-- key: reg_key
-- title: Active registrations
-- description: For each registration number the active registration: the newest, and of several of one date that with the highest id.
SELECT DISTINCT ON (r.reg_key)
       r.reg_key,
       r.reg_prg_id,
       r.reg_date,
       r.intake_id,
       r.splz_id,
       r.level_id,
       r.prg_type,
       r.camp_id
  FROM registration AS r
 WHERE r.is_active AND r.reg_key IS NOT NULL
 ORDER BY r.reg_key, r.reg_date DESC NULLS LAST, r.reg_prg_id DESC
