"""The servers of a production set-up, run natively on this machine: Kafka, Connect with Debezium, MariaDB.

For development and tests where no container engine runs. Each server lives in a folder of its own, listens on free
loopback ports and ends with the process that started it. Nothing the daemon needs is in here.
"""
