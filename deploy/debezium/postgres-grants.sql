-- In the source database, as its owner. wal_level = logical must be set in postgresql.conf.
CREATE ROLE "debezium" LOGIN REPLICATION;  -- give it a password of your own: \password debezium
GRANT USAGE ON SCHEMA "public" TO "debezium";
GRANT SELECT ON "public"."film", "public"."inventory", "public"."rental", "public"."payment", "public"."customer", "public"."category", "public"."film_category", "public"."store" TO "debezium";
CREATE PUBLICATION "rental" FOR TABLE "public"."film", "public"."inventory", "public"."rental", "public"."payment", "public"."customer", "public"."category", "public"."film_category", "public"."store" WITH (publish_via_partition_root = true);
