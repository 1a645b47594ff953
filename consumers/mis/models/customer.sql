-- key: record
-- title: Customers
-- description: Every applicant and every student as the customer that QuickBooks should hold, with a fingerprint of all that is sent.
SELECT a.record,
       'applicant' AS kind,
       a.appl_id AS record_id,
       a.known_id,
       a.real_name,
       a.name_suffix,
       a.given_name,
       a.middle_name,
       a.family_name,
       a.phone,
       a.email,
       a.customer_type,
       a.fields,
       md5(jsonb_build_array(
           a.real_name, a.name_suffix, a.given_name, a.middle_name, a.family_name, a.phone, a.email, a.customer_type, a.fields
       )::text) AS fingerprint
  FROM applicant_customer AS a
 UNION ALL
SELECT s.record,
       'student',
       s.per_id_ug,
       s.known_id,
       s.real_name,
       s.name_suffix,
       s.given_name,
       s.middle_name,
       s.family_name,
       s.phone,
       s.email,
       s.customer_type,
       s.fields,
       md5(jsonb_build_array(
           s.real_name, s.name_suffix, s.given_name, s.middle_name, s.family_name, s.phone, s.email, s.customer_type, s.fields
       )::text)
  FROM student_customer AS s
