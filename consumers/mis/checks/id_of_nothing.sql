-- title: Id that resolves to nothing
-- severity: warning
SELECT record, field, id FROM v_unresolved
