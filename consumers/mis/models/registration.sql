-- key: reg_prg_id
-- title: Registrations
-- description: Registrations for programmes; reg_key finds the student, whatever the case of the number.
SELECT r.reg_prg_id,
       nullif(btrim(regexp_replace(r.reg_no, '[\s\u00a0]+', ' ', 'g')), '') AS reg_no,
       lower(nullif(btrim(regexp_replace(r.reg_no, '[\s\u00a0]+', ' ', 'g')), '')) AS reg_key,
       coalesce(r.reg_active, 0) = 1 AS is_active,
       r.reg_date,
       r.intake_id,
       r.prg_id,
       r.splz_id,
       r.level_id,
       r.prg_mode_id,
       r.prg_type,
       r.camp_id
  FROM tbl_register_program_ug AS r
