-- title: Transitions of an item
-- parameters: item=1
SELECT at, from_value, to_value, cause FROM inventory_audit WHERE inventory_id = :item ORDER BY seq
