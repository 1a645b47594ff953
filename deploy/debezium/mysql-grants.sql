-- In the source, as an administrator. Its configuration must have log_bin, binlog_format=ROW,
-- binlog_row_image=FULL and a server_id.
CREATE USER 'debezium'@'%' ACCOUNT LOCK;
-- Give it a password of your own: ALTER USER 'debezium'@'%' IDENTIFIED BY '…' ACCOUNT UNLOCK;
-- RELOAD is for the moment in which the snapshot begins: without it, tables would be locked all along.
GRANT RELOAD, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'debezium'@'%';
GRANT SELECT ON `DATABASE`.`film` TO 'debezium'@'%';
GRANT SELECT ON `DATABASE`.`inventory` TO 'debezium'@'%';
GRANT SELECT ON `DATABASE`.`rental` TO 'debezium'@'%';
GRANT SELECT ON `DATABASE`.`payment` TO 'debezium'@'%';
GRANT SELECT ON `DATABASE`.`customer` TO 'debezium'@'%';
GRANT SELECT ON `DATABASE`.`category` TO 'debezium'@'%';
GRANT SELECT ON `DATABASE`.`film_category` TO 'debezium'@'%';
GRANT SELECT ON `DATABASE`.`store` TO 'debezium'@'%';
